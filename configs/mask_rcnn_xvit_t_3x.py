_base_ = [
    '_base_/models/mask_rcnn_xvit.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

model = dict(backbone=dict(arch='tiny', drop_path_rate=0.05), neck=dict(in_channels=[192] * 4))
