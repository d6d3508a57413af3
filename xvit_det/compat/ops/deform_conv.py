"""Deformable convolution, without and with modulation."""

import torch
import torchvision
from torch import Tensor

from xvit_det.compat.ops import wide
from xvit_det.errors import InputError

# How mmcv names stride, padding, dilation (each height, width), groups and offset groups in either op.
PLAIN = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
MODULATED = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', 'group', 'deformable_group')


def _as_kernel_reads(x: Tensor, output: Tensor) -> Tensor:
    """A view of an offset or a mask (B, C, H, W) with the output's (h, w), as mmcv's modulated kernel reads it.

    The kernel assumes that they have the output's size. Of larger ones, as mmdet's DyHead passes them, it reads the
    first C·h·w numbers of each image.
    """
    channels, (h, w) = x.shape[1], output.shape[-2:]
    if x.shape[-2:] == (h, w):
        return x
    if channels * h * w > x[0].numel():
        raise InputError(f'deformable convolution got offsets of {tuple(x.shape[-2:])} for an output of {(h, w)}')
    return x.flatten(1)[:, : channels * h * w].unflatten(1, (channels, h, w))


def _forward(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None, numbers: list[int]
) -> Tensor:
    stride, padding, dilation = numbers[0:2], numbers[2:4], numbers[4:6]  # the groups follow from the shapes
    bias, mask = (None if x is None else wide(x) for x in (bias, mask))
    conv = torchvision.ops.deform_conv2d
    return conv(wide(input), wide(offset), wide(weight), bias, stride, padding, dilation, mask)


def _backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, numbers: list[int]
) -> tuple[Tensor, ...]:
    """Return the gradients of input, weight, offset, mask and bias."""
    backward = torch.ops.torchvision._deform_conv2d_backward
    grad_output, input, weight, offset = map(wide, (grad_output, input, weight, offset))
    modulation = input.new_zeros(len(input), 1) if mask is None else wide(mask)
    bias = input.new_zeros(len(weight))
    return backward(grad_output, input, weight, offset, modulation, bias, *numbers, mask is not None)


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **sizes: int
) -> None:
    output.copy_(_forward(input, weight, offset, None, None, [sizes[name] for name in PLAIN]))


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
    grads = _backward(grad_output, input, weight, offset, None, [sizes[name] for name in PLAIN])
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
    weight = torch.zeros_like(grad_weight)  # only its shape enters its gradient
    grads = _backward(grad_output, input, weight, offset, None, [sizes[name] for name in PLAIN])
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
    numbers = [sizes[name] for name in MODULATED]
    offset, mask = _as_kernel_reads(offset, output), _as_kernel_reads(mask, output)
    output.copy_(_forward(input, weight, offset, mask, bias if with_bias else None, numbers))


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
    offset, mask = _as_kernel_reads(offset, grad_output), _as_kernel_reads(mask, grad_output)
    grads = _backward(grad_output, input, weight, offset, mask, [sizes[name] for name in MODULATED])
    grad_offset, grad_mask = _as_kernel_reads(grad_offset, grad_output), _as_kernel_reads(grad_mask, grad_output)
    outputs = [grad_input, grad_weight, grad_offset, grad_mask] + [grad_bias] * with_bias
    for output, grad in zip(outputs, grads, strict=False):
        output.copy_(grad)
