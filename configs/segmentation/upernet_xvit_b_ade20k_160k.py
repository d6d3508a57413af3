_base_ = [
    '../_base_/models/upernet_xvit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/runtime/mmseg.py',
]

model = dict(
    backbone=dict(arch='base'),
    decode_head=dict(in_channels=[512] * 4),
    auxiliary_head=dict(in_channels=512),
)
