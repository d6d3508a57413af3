_base_ = [
    '_base_/models/mask_rcnn_vix.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

# Stages of stride 8, 16 and 32, as PiT-S.
model = dict(
    backbone=dict(
        _delete_=True,
        type='PiX',
        arch='small',
        stem='overlap',
        patch_size=8,
        mixer=dict(type='nystrom', landmarks=64),
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[144, 144, 288, 576]),
)
