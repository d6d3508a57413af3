"""Fusing the backbones inside a detector, segmentor or classifier."""

from torch import nn

from xvit_det.backbones import Backbone
from xvit_det.errors import InputError


def fuse(model: nn.Module) -> nn.Module:
    """Fuse, in place, every backbone in a model, see :meth:`xvit_det.backbones.Backbone.fuse`.

    Args:
        model: A backbone, or a detector, segmentor or classifier that contains some. Modules from outside this package
            are left alone.

    Returns:
        The same model.

    Raises:
        InputError: The model contains no backbone of this package, or one in training mode.
    """
    backbones = [module for module in model.modules() if isinstance(module, Backbone)]
    if not backbones:
        raise InputError(f'{type(model).__name__} has no backbone of xvit_det to fuse')
    for backbone in backbones:
        backbone.fuse()
    return model
