"""Preparing whole detectors, segmentors and classifiers for inference: fold, rearrange, round."""

import torch
from torch import nn

from xvit_det.backbones import Backbone
from xvit_det.deploy.precision import choose_dtype, compute_in_bfloat16
from xvit_det.errors import InputError
from xvit_det.kernels import winograd
from xvit_det.kernels.onednn import OneDNNLinear
from xvit_det.kernels.winograd import WinogradConv2d, is_suited


def fuse(model: nn.Module, *, channels_last: bool = True, dtype: torch.dtype | str = torch.float32) -> nn.Module:
    """Make a model faster for inference, in place. Its state dict keeps its keys outside the backbone.

    Every backbone is fused, see :meth:`xvit_det.backbones.Backbone.fuse`. In neck and heads, on a CPU, linear layers go
    through oneDNN and convolutions of 3 x 3 through Winograd's algorithm where trials on the machine at hand find these
    faster, see :mod:`xvit_det.kernels.linear_trial` and :mod:`xvit_det.kernels.winograd`.

    Args:
        model: A backbone of this package, or a detector, segmentor or classifier that contains one.
        channels_last: Lay out the convolutions of neck and heads for channels-last maps, as the backbones return them,
            from 128 channels on; with fewer, PyTorch's own layout was faster on the CPU that was tried. Outputs change
            by rounding only.
        dtype: ``torch.bfloat16``: what backbone, neck and heads compute in; boxes and RoIAlign stay in float32, see
            :func:`xvit_det.deploy.precision.compute_in_bfloat16`. ``'auto'``: bfloat16 if a short trial on this machine
            finds it faster. ``torch.float32``: the model stays as it is.

    Returns:
        The same model. Of one given in float32, images and results stay in float32. Its parameters require no gradient.

    Raises:
        InputError: The model contains no backbone of this package, or one in training mode; there is no such dtype; or
            bfloat16 is asked of a model without a part named ``backbone``.
    """
    backbones = [module for module in model.modules() if isinstance(module, Backbone)]
    if not backbones:
        raise InputError(f'{type(model).__name__} has no backbone of xvit_det to fuse')
    dtype = choose_dtype(model, dtype)
    for backbone in backbones:
        backbone.fuse()
    fused = {part for backbone in backbones for part in backbone.modules()}
    faster: dict[nn.Module, nn.Module] = {}  # layers may be shared
    for module in [module for module in model.modules() if module not in fused]:
        for name, part in module._modules.items():
            # A subclass may compute something else, and so may a hook, such as that of a weight norm.
            if type(part) is nn.Linear and not part._forward_pre_hooks and not part._forward_hooks:
                setattr(module, name, faster.setdefault(part, OneDNNLinear(part).eval()))
            elif part is not None and is_suited(part):
                setattr(module, name, faster.setdefault(part, WinogradConv2d(part).eval()))
        if channels_last and isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            plain = type(module).__name__ in ('Conv2d', 'ConvTranspose2d')  # PyTorch's, and mmcv's
            if plain and module.in_channels >= winograd.MIN_CHANNELS:
                nn.utils.convert_conv2d_weight_memory_format(module, torch.channels_last)
    if dtype == torch.bfloat16:
        compute_in_bfloat16(model)
    return model.requires_grad_(False)
