"""Parameters and multiply-accumulate operations of a model."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module, convention: str = 'all') -> int:
    """Count parameters.

    Args:
        model: Any module.
        convention: ``'all'``: every trainable number.

    Raises:
        ValueError: An unknown convention.
    """
    if convention != 'all':
        raise ValueError(f"convention {convention!r} is not 'all'")
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, size: int | tuple[int, int] = 224, in_channels: int = 3) -> int:
    """Count the multiply-accumulates of convolutions, linear layers and matrix products for one image.

    Norms and activations are not counted, as in the papers. PyTorch's own counter does it, at half a floating-point
    pair each.

    Args:
        model: A module that takes (1, in_channels, H, W). It runs once, in evaluation mode, where its parameters are.
        size: Height and width in pixels, or one number for both.
        in_channels: Channels of the image.
    """
    height, width = (size, size) if isinstance(size, int) else size
    parameter = next(model.parameters())
    image = torch.ones(1, in_channels, height, width, device=parameter.device, dtype=parameter.dtype)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(image)
    model.train(was_training)
    return counter.get_total_flops() // 2
