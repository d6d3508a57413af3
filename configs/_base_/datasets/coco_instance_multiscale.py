# COCO with DETR's multi-scale augmentation, as in the tables of XCiT, which X-ViT's compare with.
_base_ = 'mmdet::_base_/datasets/coco_instance.py'

fixed800_pipeline = _base_.train_pipeline  # mmdet's own, 1333x800 and flip: for the *_fixed800 and *_1x configs

short_sides_480_to_800 = dict(
    type='RandomChoiceResize', scales=[(side, 1333) for side in range(480, 801, 32)], keep_ratio=True
)
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',  # each with probability 0.5
        transforms=[
            [short_sides_480_to_800],
            [
                dict(type='RandomChoiceResize', scales=[(400, 1333), (500, 1333), (600, 1333)], keep_ratio=True),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                short_sides_480_to_800,
            ],
        ],
    ),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
