"""Deformable convolution, without and with modulation."""

import torch
import torchvision
from torch import Tensor

from xvit_det.compat.ops import wide


def _deform_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    *numbers: int,
) -> tuple[Tensor, ...]:
    """Return the gradients of input, weight, offset, mask and bias.

    ``numbers``: stride, padding, dilation (each height, width), groups, offset groups.
    """
    backward = torch.ops.torchvision._deform_conv2d_backward
    grad_output, input, weight, offset = map(wide, (grad_output, input, weight, offset))
    modulation = input.new_zeros(len(input), 1) if mask is None else wide(mask)
    bias = input.new_zeros(len(weight))
    return backward(grad_output, input, weight, offset, modulation, bias, *numbers, mask is not None)


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **sizes: int
) -> None:
    output.copy_(
        torchvision.ops.deform_conv2d(
            *map(wide, (input, offset, weight)),
            stride=(sizes['dH'], sizes['dW']),
            padding=(sizes['padH'], sizes['padW']),
            dilation=(sizes['dilationH'], sizes['dilationW']),
        )
    )


def _numbers(s: dict[str, int]) -> tuple[int, ...]:
    names = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
    return tuple(s[name] for name in names)


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    grads = _deform_backward(grad_output, input, weight, offset, None, *_numbers(sizes))
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **sizes: int,
) -> None:
    # Only the shape of the weight enters its own gradient.
    grads = _deform_backward(grad_output, input, torch.zeros_like(grad_weight), offset, None, *_numbers(sizes))
    grad_weight.add_(grads[1].to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    output.copy_(
        torchvision.ops.deform_conv2d(
            *map(wide, (input, offset, weight)),
            bias=wide(bias) if with_bias else None,
            stride=(sizes['stride_h'], sizes['stride_w']),
            padding=(sizes['pad_h'], sizes['pad_w']),
            dilation=(sizes['dilation_h'], sizes['dilation_w']),
            mask=wide(mask),
        )
    )


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    names = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', 'group', 'deformable_group')
    numbers = [sizes[name] for name in names]
    grads = _deform_backward(grad_output, input, weight, offset, mask, *numbers)
    outputs = [grad_input, grad_weight, grad_offset, grad_mask] + [grad_bias] * with_bias
    for output, grad in zip(outputs, grads, strict=False):
        output.copy_(grad)
