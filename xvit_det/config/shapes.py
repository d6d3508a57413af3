"""Models with shapes but without numbers, to count and to check: they take no memory and next to no time."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import MODELS

from xvit_det.compat.quiet import without_log


def build_shapes(cfg: Mapping[str, Any], scope: str) -> Any:
    """Build a model, or a part of one, on PyTorch's meta device, without a word: whoever builds it for use will log.

    Args:
        cfg: As for ``MODELS.build``.
        scope: Where its types are looked up: ``'mmdet'``, ``'mmpretrain'`` or ``'mmseg'``.
    """
    with torch.device('meta'), without_log('ERROR'):
        # A copy: DETR's head, among others, writes into its config.
        built = MODELS.build(copy.deepcopy({**cfg, '_scope_': scope}))
    return built.to('meta')  # SSD's neck, among others, makes weights on the CPU


def shapes_or_none(cfg: Mapping[str, Any], scope: str) -> Any:
    """As :func:`build_shapes`; ``None`` for what cannot be built, which the Runner reports when it builds the model."""
    try:
        return build_shapes(cfg, scope)
    except Exception:
        return None
