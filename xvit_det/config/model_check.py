"""Check how a config uses one of our backbones: OpenMMLab trains with wrong strides without a word."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from xvit_det.backbones import Backbone
from xvit_det.config.pretrain_check import check_pretrain_model
from xvit_det.config.shapes import shapes_or_none
from xvit_det.errors import InputError

SIDE = 1024  # pixels: a multiple of all strides up to that of P10


def check_model(cfg: Config) -> None:
    """Check that the outputs of the backbone, if it is one of ours, are what the rest of the model expects.

    Raises:
        InputError: A detector's neck or heads expect maps of other channels or strides than they get, or what
            :func:`check_pretrain_model` refuses.
    """
    if cfg.get('default_scope') == 'mmdet':
        _check_strides(cfg)
    elif cfg.get('default_scope') == 'mmpretrain':
        check_pretrain_model(cfg)


def _check_strides(cfg: Config) -> None:
    model = shapes_or_none({**cfg.model, 'data_preprocessor': None}, 'mmdet')
    if not isinstance(getattr(model, 'backbone', None), Backbone):
        return
    try:
        given = [SIDE // m.shape[-1] for m in _maps(model.eval())]
    except BoundToASize:
        return
    for name, expected in _expected_strides(model):
        if expected != given[: len(expected)]:
            raise InputError(
                f'model.{name} is made for maps of strides {expected}, but gets maps of strides {given}; '
                f"set the backbone's out_strides (now {list(model.backbone.out_strides)}), and start_level, "
                f'num_outs and in_channels of the neck, so that they agree'
            )


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
