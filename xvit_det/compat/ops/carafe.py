"""CARAFE: upsampling with kernels that are predicted for every position ("CARAFE", arXiv 1905.02188, Section 3)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from xvit_det.compat.ops import wide


def _reassemble(features: Tensor, masks: Tensor, k: int, groups: int, scale: int) -> Tensor:
    """Features (B, C, h, w) and kernels (B, groups·k², h·scale, w·scale) -> (B, C, h·scale, w·scale), Equation 4."""
    B, C, h, w = features.shape
    patches = F.unfold(features, k, padding=k // 2)  # (B, C, h, w) -> (B, C·k², h·w)
    patches = patches.reshape(B, groups, C // groups, k * k, h, w)
    kernels = masks.reshape(B, groups, k * k, h, scale, w, scale)  # (B, G·k², h·s, w·s) -> (B, G, k², h, s, w, s)
    out = torch.einsum('bgckhw,bgkhiwj->bgchiwj', patches, kernels)
    return out.reshape(B, C, h * scale, w * scale)  # (B, G, C/G, h, s, w, s) -> (B, C, h·s, w·s)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill ``output``; ``rfeatures`` is what the backward pass gets of the features."""
    rfeatures.copy_(features)
    output.copy_(_reassemble(wide(features), wide(masks), kernel_size, group_size, scale_factor))


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    features, masks = inputs = [wide(x.detach()).requires_grad_() for x in (rfeatures, masks)]
    with torch.enable_grad():
        output = _reassemble(features, masks, kernel_size, group_size, scale_factor)
    grads = torch.autograd.grad(output, inputs, grad_output.to(output))
    grad_input.copy_(grads[0])
    grad_masks.copy_(grads[1])
