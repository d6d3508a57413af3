"""Check how a config uses one of our backbones: OpenMMLab trains with wrong strides without a word."""

from mmengine.config import Config
from mmengine.registry import MODELS

from xvit_det.backbones import Backbone
from xvit_det.config.detector_check import check_detector
from xvit_det.config.pretrain_check import check_pretrain_model
from xvit_det.config.segmentor_check import check_segmentor
from xvit_det.errors import InputError

# OpenMMLab's layer-wise learning rates: these know a few backbones by name, mmpretrain's knows classifiers only.
OTHER_LAYER_DECAY = ('LearningRateDecayOptimizerConstructor', 'LayerDecayOptimizerConstructor')
CLASSIFIER_LAYER_DECAY = 'LearningRateDecayOptimWrapperConstructor'
CHECKS = {'mmdet': check_detector, 'mmseg': check_segmentor, 'mmpretrain': check_pretrain_model}


def check_model(cfg: Config) -> None:
    """Check that the outputs of the backbone, if it is one of ours, are what the rest of the model expects.

    Raises:
        InputError: The optimizer's constructor does not know the backbone, or neck and heads do not fit it.
    """
    _check_layer_decay(cfg)
    check = CHECKS.get(cfg.get('default_scope', ''))
    if check:
        check(cfg)


def _check_layer_decay(cfg: Config) -> None:
    constructor = (cfg.get('optim_wrapper') or {}).get('constructor', '')
    name = constructor.split('.')[-1] if isinstance(constructor, str) else getattr(constructor, '__name__', '')
    refused = name in OTHER_LAYER_DECAY
    if name == CLASSIFIER_LAYER_DECAY:
        refused = cfg.get('default_scope') != 'mmpretrain'
    backbone = (cfg.model.get('backbone') or {}).get('type')
    if refused and backbone and issubclass(MODELS.get(backbone) or object, Backbone):
        raise InputError(
            f'optim_wrapper.constructor {name} does not know {backbone}; take LayerDecayOptimWrapperConstructor with '
            f'paramwise_cfg=dict(_delete_=True, layer_decay_rate=...)'
        )
