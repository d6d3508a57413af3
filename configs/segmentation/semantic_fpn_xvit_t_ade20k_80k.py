_base_ = [
    '../_base_/models/semantic_fpn_xvit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_80k.py',
    '../_base_/runtime/mmseg.py',
]

model = dict(
    backbone=dict(arch='tiny'),
    neck=dict(in_channels=[192] * 4, out_channels=192),
    decode_head=dict(in_channels=[192] * 4),
)
