# What the segmentors have in common. No ImageNet weights are published; to load yours, see mask_rcnn_xvit.py.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(512, 512),  # of the training crops, to which smaller ones are padded
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(type='XViT', arch='small', drop_path_rate=0.05, mask_padding=True, init_cfg=None),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
