_base_ = [
    '../_base_/models/xvit_densecl.py',
    '../_base_/datasets/imagenet_mocov2.py',
    '../_base_/schedules/selfsup_200e.py',
    '../_base_/runtime/mmpretrain.py',
]
