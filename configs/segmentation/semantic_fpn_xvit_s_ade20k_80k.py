_base_ = [
    '../_base_/models/semantic_fpn_xvit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_80k.py',
    '../_base_/runtime/mmseg.py',
]
