_base_ = [
    '../_base_/models/semantic_fpn_xvit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_80k.py',
    '../_base_/runtime/mmseg.py',
]

model = dict(
    backbone=dict(arch='base'),
    neck=dict(in_channels=[512] * 4, out_channels=512),
    decode_head=dict(in_channels=[512] * 4),
)
