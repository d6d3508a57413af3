_base_ = [
    '_base_/models/mask_rcnn_vix.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

# The first two stages of LeViT-256, of stride 16 and 32; the pyramid does not use the third, of stride 64.
model = dict(
    backbone=dict(_delete_=True, type='LeViX', arch='levit_256', mixer=dict(type='nystrom', landmarks=64)),
    neck=dict(in_channels=[256, 256, 256, 384]),
)
