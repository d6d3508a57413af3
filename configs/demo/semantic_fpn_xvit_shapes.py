"""Semantic FPN with a small X-ViT on the drawn Shapes: what `xvit-det demo --task segmentation` trains.

The segmentor is mmseg's own, with narrower layers than ADE20K needs.
"""

_base_ = '../_base_/schedules/demo.py'
custom_imports = dict(
    imports=['xvit_det', 'xvit_det.datasets.shapes.seg_dataset', 'xvit_det.engine.class_iou'],
    allow_failed_imports=False,
)
default_scope = 'mmseg'

num_classes = 7  # the background and six kinds of shape
width = 64
# Batches are tiny: BatchNorm would train on statistics of one or two images, and evaluate on others.
norm = dict(type='GN', num_groups=8)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(192, 192),
    ),
    backbone=dict(
        type='XViT',
        # Maps of the last blocks, and none coarser than stride 16, at which they work: it would blur what overlaps.
        out_strides=(4, 8, 16),
        out_indices=(3, 4, 5),
        norm_cfg=norm,
        arch=dict(
            embed_dims=128,
            depth=6,
            attn_dims=64,
            num_heads=4,
            mlp_ratio=4,
            num_class_layers=0,
            layer_scale=1.0,
        ),
    ),
    neck=dict(type='FPN', in_channels=[128] * 3, out_channels=width, num_outs=3),
    decode_head=dict(
        type='FPNHead',
        in_channels=[width] * 3,
        in_index=[0, 1, 2],
        feature_strides=[4, 8, 16],
        channels=width,
        dropout_ratio=0.0,
        num_classes=num_classes,
        norm_cfg=norm,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

dataset_type = 'ShapesSegDataset'
data_root = 'data/shapes_segmentation/'
# Drawing a scene takes less time than a training step on it, and teaches more than repeating one.
num_train = 4500
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, split='train', data_root=data_root, num_train=num_train, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        split='val',
        data_root=data_root,
        num_train=num_train,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ClassIoUMetric')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', begin=0, end=3, T_max=3, eta_min=1e-5, convert_to_iter_based=True),
]
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
