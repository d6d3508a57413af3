"""Strides of maps and heads are compared before training, and outputs that do not fit a classifier are refused."""

import copy

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from xvit_det.compat.quiet import import_quietly
from xvit_det.config.load import load_config
from xvit_det.config.model_check import check_model
from xvit_det.errors import InputError
from xvit_det.hub import list_models

ARCH = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)
TEACHER = 'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
STUDENT = 'lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py'
TRACKER = 'qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py'


def stock(path: str, neck: dict, **backbone) -> Config:
    """One of mmdet's own configs with a small X-ViT in it."""
    import_quietly('mmdet')
    cfg = get_config(f'mmdet::{path}')
    part = cfg.model.get('detector', cfg.model)
    part.backbone = ConfigDict(type='XViT', arch=ARCH, **backbone)
    part.neck.update(neck)
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
        ('htc/htc_r50_fpn_1x_coco.py', dict(in_channels=[32] * 4), {}),  # semantic_roi_extractor reads another map
        (TEACHER, dict(in_channels=[32] * 4), {}),
        (TRACKER, dict(in_channels=[32] * 4), {}),
        (STUDENT, dict(in_channels=[32] * 3, start_level=0), dict(out_strides=(8, 16, 32))),
        # Its strides are 550 / 69 = 7.97 and so on.
        (
            'yolact/yolact_r50_1xb8-55e_coco.py',
            dict(in_channels=[32] * 3, start_level=0),
            dict(out_strides=(8, 16, 32)),
        ),
        # Its neck makes a weight on the CPU, and its last maps are bound to images of 300 pixels.
        (
            'ssd/ssd300_coco.py',
            dict(in_channels=(32, 32), out_channels=(32, 32, 512, 256, 256, 256)),
            dict(out_strides=(8, 16)),
        ),
    ],
)
def test_strides_that_agree(path, neck, backbone):
    check_model(stock(path, neck, **backbone))


def test_the_config_stays_as_it_is():
    """DETR's head replaces a weight in its config by a tensor."""
    cfg = stock('detr/detr_r50_8xb2-150e_coco.py', dict(in_channels=[32]), out_strides=32)
    before = copy.deepcopy(cfg.model.to_dict())
    check_model(cfg)
    assert cfg.model.to_dict() == before


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
        *(
            (
                path,
                dict(in_channels=[32] * 3),
                dict(out_strides=(8, 16, 32)),
                r'model\.detector\.rpn_head is made for maps of strides \[4, 8, 16, 32, 64\]',
            )
            for path in (TEACHER, TRACKER)
        ),
        (STUDENT, dict(in_channels=[32] * 3), dict(out_strides=(8, 16, 32)), r'model\.bbox_head .* \[16, 32, 64, 128'),
    ],
)
def test_strides_that_disagree(path, neck, backbone, message):
    with pytest.raises(InputError, match=message):
        check_model(stock(path, neck, **backbone))


SHIPPED = ['mask_rcnn_xvit_t_3x', 'retinanet_xvit_s_1x', 'dino_xvit_s_12e', 'xvit_t_in1k', 'vin_s_in1k']


@pytest.mark.parametrize('name', [*SHIPPED, *list_models('*_cifar10'), *list_models('*_200e')])
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
        ({}, None, r'ImageClassifier takes no pyramid: set out_type of model.backbone \(XViT\)'),
        (
            dict(out_type='cls_token'),
            dict(type='GlobalAveragePooling'),
            r'model.neck \(GlobalAveragePooling\) does not take 1 vector of 32 channels \(out_type cls_token of XViT\)',
        ),
        (dict(out_type='cls_token'), None, r'model.head \(LinearClsHead\) does not take 1 vector of 32 channels'),
        (
            dict(out_type='featmap'),
            dict(type='GlobalAveragePooling'),
            r'\(LinearClsHead\) does not take 1 vector of 32 channels \(from GlobalAveragePooling\): set its ',
        ),
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
