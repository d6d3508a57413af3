"""Mask R-CNN with a small X-ViT on the drawn Shapes: what `xvit-det demo --task detection` trains.

The detector is mmdet's own, with narrower layers and fewer anchors, proposals and samples than COCO needs.
"""

_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', '../_base_/schedules/demo.py']
custom_imports = dict(imports=['xvit_det', 'xvit_det.datasets.shapes.dataset'], allow_failed_imports=False)
default_scope = 'mmdet'

num_classes = 6
width = 64
strides = [4, 8, 16, 32]
# Batches are tiny: the statistics used in evaluation must come from many of them.
norm = dict(type='BN', momentum=0.02)
head_norm = dict(type='GN', num_groups=16)  # Without norms in the heads, learning from scratch takes far longer.
model = dict(
    backbone=dict(
        _delete_=True,
        type='XViT',
        norm_cfg=norm,
        arch=dict(
            embed_dims=128,
            depth=4,
            attn_dims=64,
            num_heads=4,
            mlp_ratio=4,
            num_class_layers=0,
            layer_scale=1.0,
        ),
    ),
    neck=dict(in_channels=[128] * 4, out_channels=width, num_outs=4, norm_cfg=norm),
    rpn_head=dict(
        in_channels=width,
        feat_channels=32,
        anchor_generator=dict(scales=[4], strides=strides),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_convs=2,
            num_shared_fcs=1,
            in_channels=width,
            conv_out_channels=width,
            fc_out_channels=256,
            num_classes=num_classes,
            reg_class_agnostic=True,
            norm_cfg=head_norm,
        ),
        mask_roi_extractor=dict(out_channels=width, roi_layer=dict(sampling_ratio=2)),
        mask_head=dict(
            num_convs=2,
            in_channels=width,
            conv_out_channels=width,
            num_classes=num_classes,
            class_agnostic=True,
            norm_cfg=head_norm,
            loss_mask=dict(loss_weight=2.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=150, max_per_img=40),
        rcnn=dict(sampler=dict(num=64, pos_fraction=0.33)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=150, max_per_img=50), rcnn=dict(max_per_img=50)),
)

dataset_type = 'ShapesDataset'
data_root = 'data/shapes/'
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        split='train',
        data_root=data_root,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        split='val',
        data_root=data_root,
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale_factor=1.0),  # Changes nothing; mmdet's mask head asks for the factor.
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric=['bbox', 'segm'],
)
test_evaluator = val_evaluator
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
