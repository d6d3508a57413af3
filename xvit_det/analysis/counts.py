"""Parameters and multiply-accumulate operations of a model."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xvit_det.errors import InputError


def count_parameters(model: nn.Module, convention: str = 'all') -> int:
    """Count parameters.

    Args:
        model: Any module.
        convention: ``'all'``: every parameter, frozen or not; ``'paper'``: as the "Vision Xformers" paper counts, with
            a tool that sees only the weights and biases of PyTorch's own layers. It leaves out class tokens, position
            tables, Linformer's projections and CvX's channel norms.

    Raises:
        InputError: An unknown convention.
    """
    if convention not in ('all', 'paper'):
        raise InputError(f'convention {convention!r} is not one of all, paper')
    if convention == 'all':
        return sum(parameter.numel() for parameter in model.parameters())
    return sum(
        parameter.numel()
        for module in model.modules()
        if type(module).__module__.startswith('torch.nn.')
        for name, parameter in module.named_parameters(recurse=False)
        if name in ('weight', 'bias')
    )


def count_macs(model: nn.Module, size: int | tuple[int, int] = 224, in_channels: int = 3) -> int:
    """Count the multiply-accumulates of convolutions, linear layers and matrix products for one image.

    Norms and activations are not counted, as in the papers. PyTorch's own counter does it, on a copy of the model that
    has shapes but no numbers, so any size takes no time and no memory.

    Args:
        model: A module that takes images (1, in_channels, H, W).
        size: Height and width in pixels, or one number for both.
        in_channels: Channels of the image.
    """
    height, width = (size, size) if isinstance(size, int) else size
    shapes = copy.deepcopy(model).to('meta').requires_grad_(False)
    shapes.eval()  # which in some of mmpretrain's models returns nothing
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(torch.empty(1, in_channels, height, width, device='meta'))
    return counter.get_total_flops() // 2  # it counts a multiplication and an addition as two
