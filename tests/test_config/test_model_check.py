"""Strides of maps and heads are compared before training, and outputs that do not fit a classifier are refused."""

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from xvit_det.compat.quiet import import_quietly
from xvit_det.config.load import load_config
from xvit_det.config.model_check import check_model
from xvit_det.errors import InputError

ARCH = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)


def stock(path: str, neck: dict, **backbone) -> Config:
    """One of mmdet's own configs with a small X-ViT in it."""
    import_quietly('mmdet')
    cfg = get_config(f'mmdet::{path}')
    cfg.merge_from_dict({'model.backbone': dict(_delete_=True, type='XViT', arch=ARCH, **backbone)})
    cfg.merge_from_dict({'model.neck': neck})
    return cfg


@pytest.mark.parametrize(
    ('path', 'neck', 'backbone'),
    [
        ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', dict(in_channels=[32] * 4), {}),
        ('retinanet/retinanet_r50_fpn_1x_coco.py', dict(in_channels=[32] * 4), {}),
        (
            'retinanet/retinanet_r50_fpn_1x_coco.py',
            dict(in_channels=[32] * 3, start_level=0),
            dict(out_strides=(8, 16, 32)),
        ),
        ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', dict(in_channels=[32] * 4), {}),
        ('yolof/yolof_r50-c5_8xb8-1x_coco.py', dict(in_channels=32), dict(out_strides=32)),
    ],
)
def test_strides_that_agree(path, neck, backbone):
    check_model(stock(path, neck, **backbone))


@pytest.mark.parametrize(
    ('path', 'neck', 'backbone', 'message'),
    [
        # Three maps without start_level=0: the neck skips the first.
        (
            'retinanet/retinanet_r50_fpn_1x_coco.py',
            dict(in_channels=[32] * 3),
            dict(out_strides=(8, 16, 32)),
            r'bbox_head is made for maps of strides \[8, 16, 32, 64, 128\], but gets maps of strides \[16, 32, 64, 128',
        ),
        (
            'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
            dict(in_channels=[32] * 3),
            dict(out_strides=(8, 16, 32)),
            r'bbox_head is made for maps of strides \[8, 16, 32, 64, 128\]',
        ),
        (
            'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
            dict(in_channels=[32] * 3),
            dict(out_strides=(8, 16, 32)),
            r'rpn_head is made for maps of strides \[4, 8, 16, 32, 64\].*out_strides \(now \[8, 16, 32\]\)',
        ),
        (
            'yolof/yolof_r50-c5_8xb8-1x_coco.py',
            dict(in_channels=32),
            dict(out_strides=16),
            r'strides \[32\], but gets maps of strides \[16\]',
        ),
    ],
)
def test_strides_that_disagree(path, neck, backbone, message):
    with pytest.raises(InputError, match=message):
        check_model(stock(path, neck, **backbone))


@pytest.mark.parametrize('name', ['mask_rcnn_xvit_t_3x', 'retinanet_xvit_s_1x', 'dino_xvit_s_12e', 'xvit_t_in1k'])
def test_shipped_configs_agree(name):
    check_model(load_config(name))


@pytest.mark.parametrize('channels', [[256, 512, 1024, 2048], [32] * 3])
def test_a_neck_for_another_backbone(channels):
    with pytest.raises(InputError, match=r'neck \(FPN\) does not accept .* which have \[32, 32, 32, 32\] channels'):
        check_model(stock('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', dict(in_channels=channels)))


def test_a_backbone_bound_to_an_image_size_is_left_alone():
    cfg = stock('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', dict(in_channels=[192] * 4))
    cfg.model.backbone = dict(type='ViX', arch='tiny', mixer='mlp', img_size=512)
    check_model(cfg)


def test_other_backbones_are_not_checked():
    import_quietly('mmdet')
    cfg = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg.model.bbox_head.anchor_generator.strides = [1, 2, 3, 4, 5]
    check_model(cfg)


@pytest.mark.parametrize(
    ('options', 'neck', 'message'),
    [
        ({}, None, r'a classifier takes no pyramid: set out_type of model.backbone \(XViT\)'),
        (dict(out_type='cls_token'), dict(type='GlobalAveragePooling'), r'neck \(GlobalAveragePooling\) pools maps'),
    ],
)
def test_outputs_that_do_not_fit_a_classifier(options, neck, message):
    cfg = load_config('xvit_t_in1k')
    cfg.model.backbone = dict(type='XViT', arch=ARCH, **options)
    cfg.model.neck = neck
    with pytest.raises(InputError, match=message):
        check_model(cfg)


@pytest.mark.parametrize(
    ('config', 'constructor', 'refused'),
    [
        ('mask_rcnn_xvit_t_3x', 'LearningRateDecayOptimizerConstructor', True),
        ('mask_rcnn_xvit_t_3x', 'mmpretrain.LearningRateDecayOptimWrapperConstructor', True),
        ('mask_rcnn_xvit_t_3x', 'LayerDecayOptimWrapperConstructor', False),
        ('xvit_s_in1k', 'LearningRateDecayOptimWrapperConstructor', False),
    ],
)
def test_layer_decay_that_does_not_know_the_backbone(config, constructor, refused):
    cfg = load_config(config)
    cfg.optim_wrapper.constructor = constructor
    if not refused:
        check_model(cfg)
        return
    with pytest.raises(InputError, match='does not know XViT; take LayerDecayOptimWrapperConstructor'):
        check_model(cfg)
