"""Check how a config uses one of our backbones: OpenMMLab trains with wrong strides without a word."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from torch import nn

from xvit_det.backbones import Backbone
from xvit_det.config.shapes import build_shapes
from xvit_det.errors import InputError

# OpenMMLab's layer-wise learning rates: these know a few backbones by name, mmpretrain's knows classifiers only.
OTHER_LAYER_DECAY = ('LearningRateDecayOptimizerConstructor', 'LayerDecayOptimizerConstructor')
CLASSIFIER_LAYER_DECAY = 'LearningRateDecayOptimWrapperConstructor'
SIDE = 1024  # pixels: a multiple of all strides up to that of P10


def check_model(cfg: Config) -> None:
    """Check that the outputs of the backbone, if it is one of ours, are what the rest of the model expects.

    Raises:
        InputError: The optimizer's constructor does not know the backbone, the neck or heads of a detector or segmentor
            expect maps of other channels or strides than they get, or a classifier has a backbone with a pyramid, or
            with vectors that its neck would pool again.
    """
    _check_layer_decay(cfg)
    if cfg.get('default_scope') == 'mmdet':
        _check_strides(cfg)
    elif cfg.get('default_scope') == 'mmseg':
        _check_segmentor(cfg)
    elif cfg.get('default_scope') == 'mmpretrain' and cfg.model.get('type') == 'ImageClassifier':
        _check_classifier(cfg)


def _check_layer_decay(cfg: Config) -> None:
    constructor = (cfg.get('optim_wrapper') or {}).get('constructor', '')
    name = constructor.split('.')[-1] if isinstance(constructor, str) else constructor.__name__
    refused = name in OTHER_LAYER_DECAY
    if name == CLASSIFIER_LAYER_DECAY:
        refused = cfg.get('default_scope') != 'mmpretrain'
    backbone = (cfg.model.get('backbone') or {}).get('type')
    if refused and backbone and issubclass(MODELS.get(backbone) or object, Backbone):
        raise InputError(
            f'optim_wrapper.constructor {name} does not know {backbone}; take LayerDecayOptimWrapperConstructor with '
            f'paramwise_cfg=dict(_delete_=True, layer_decay_rate=...)'
        )


def _check_strides(cfg: Config) -> None:
    model = _build({**cfg.model, 'data_preprocessor': None}, 'mmdet')
    if not isinstance(getattr(model, 'backbone', None), Backbone):
        return
    try:
        given = _strides(_maps(model.eval()))
    except BoundToASize:
        return
    for name, expected in _expected_strides(model):
        if expected != given[: len(expected)]:
            raise InputError(
                f'model.{name} is made for maps of strides {expected}, but gets maps of strides {given}; '
                f"set the backbone's out_strides (now {list(model.backbone.out_strides)}), and start_level, "
                f'num_outs and in_channels of the neck, so that they agree'
            )


def _check_segmentor(cfg: Config) -> None:
    """Compare what each head selects (``in_index``) and is made for with the maps of the backbone and neck."""
    backbone, neck = (_build(cfg.model.get(part), 'mmseg') for part in ('backbone', 'neck'))
    if not isinstance(backbone, Backbone) or (neck is None and cfg.model.get('neck')):
        return
    try:
        maps = _maps(SimpleNamespace(backbone=backbone.eval(), neck=neck))
    except BoundToASize:
        return
    for name, head in _heads(cfg.model):
        _check_head(name, head, maps)


def _heads(model: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key) or []
        if isinstance(heads, dict):
            yield key, heads
        else:
            yield from ((f'{key}.{i}', head) for i, head in enumerate(heads))


def _check_head(name: str, head: ConfigDict, maps: Sequence[torch.Tensor]) -> None:
    wanted = head.get('in_channels')
    if wanted is None:
        return
    several = not isinstance(wanted, int)
    channels = list(wanted) if several else [wanted]
    index = head.get('in_index', list(range(len(channels))) if several else -1)
    indices = [index] if isinstance(index, int) else list(index)
    absent = [i for i in indices if not -len(maps) <= i < len(maps)]
    if absent:
        raise InputError(
            f'model.{name} selects map {absent[0]} (in_index), but there are {len(maps)} maps, 0 to {len(maps) - 1}, '
            f'of strides {_strides(maps)}'
        )
    selected = [maps[i] for i in indices]
    given, strides = [m.shape[1] for m in selected], _strides(selected)
    if given != channels:
        raise InputError(f'model.{name}.in_channels is {wanted}, but the maps that it gets have {given} channels')
    expected = head.get('feature_strides', head.get('strides'))  # of FPNHead; of Mask2FormerHead
    if expected is not None and list(expected) != strides:
        raise InputError(
            f'model.{name} is made for maps of strides {list(expected)}, but gets maps of strides {strides}; set '
            f"the backbone's out_strides, or those of the head"
        )


def _strides(maps: Sequence[torch.Tensor]) -> list[int]:
    return [SIDE // m.shape[-1] for m in maps]


def _build(cfg: dict, scope: str) -> Any:
    """Shapes without numbers; ``None`` for what cannot be built, which the Runner reports when it builds the model."""
    try:
        return build_shapes(cfg, scope)
    except Exception:
        return None


class BoundToASize(Exception):
    """The backbone's mixer takes images of another size only."""


@torch.no_grad()
def _maps(model: Any) -> Sequence[torch.Tensor]:
    """What the heads get for a square image."""
    try:
        maps = model.backbone(torch.empty(1, 3, SIDE, SIDE, device='meta'))
    except InputError as error:
        raise BoundToASize from error
    if getattr(model, 'neck', None) is None:
        return maps
    try:
        maps = model.neck(maps)
    except (AssertionError, RuntimeError, TypeError) as error:
        channels = list(model.backbone.out_channels)
        raise InputError(
            f'model.neck ({type(model.neck).__name__}) does not accept the maps of the backbone, which have {channels} '
            f'channels at strides {list(model.backbone.out_strides)}: set its in_channels to these'
        ) from error
    return [maps] if isinstance(maps, torch.Tensor) else maps


def _expected_strides(model: nn.Module) -> Iterator[tuple[str, list[int]]]:
    """The strides that anchors, points and regions of interest are made for, with the part's name."""
    for name, module in model.named_modules():
        generator = getattr(module, 'prior_generator', None)
        if generator is not None and hasattr(generator, 'strides'):
            yield name, [stride[0] if isinstance(stride, tuple) else stride for stride in generator.strides]
        if hasattr(module, 'featmap_strides'):
            yield name, list(module.featmap_strides)


def _check_classifier(cfg: Config) -> None:
    backbone = cfg.model.backbone
    built = _build(backbone, 'mmpretrain')
    if not isinstance(built, Backbone):
        return
    pools = 'Pooling' in (cfg.model.get('neck') or {}).get('type', '')
    if built.out_type == 'pyramid':
        raise InputError(
            f'a classifier takes no pyramid: set out_type of model.backbone ({backbone.type}) to cls_token or '
            f'avg_featmap, or to featmap with neck=dict(type="GlobalAveragePooling")'
        )
    if pools and built.out_type != 'featmap':
        raise InputError(
            f'model.neck ({cfg.model.neck.type}) pools maps, but out_type {built.out_type} of {backbone.type} gives '
            f'vectors: set neck=None, or out_type featmap'
        )
