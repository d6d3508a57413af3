_base_ = [
    '_base_/models/mask_rcnn_vix.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

# Stages of stride 4, 8 and 16, as CvT-13.
model = dict(
    backbone=dict(
        _delete_=True, type='CvX', arch='cvt_13', mixer=dict(type='nystrom', landmarks=64), drop_path_rate=0.1
    ),
    neck=dict(in_channels=[64, 192, 384, 384]),
)
