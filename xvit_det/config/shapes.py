"""Models with shapes but without numbers, to count and to check: they take no memory and next to no time."""

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
        return MODELS.build({**cfg, '_scope_': scope})
