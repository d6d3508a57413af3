_base_ = [
    '_base_/models/mask_rcnn_vix.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

# One stage of stride 16, as CCT-14/7x2.
model = dict(
    backbone=dict(
        _delete_=True, type='CCX', arch='cct_14', mixer=dict(type='nystrom', landmarks=64), drop_path_rate=0.1
    ),
    neck=dict(in_channels=[384] * 4),
)
