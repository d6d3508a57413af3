"""Multi-scale deformable attention."""

import torch
from torch import Tensor
from torch.nn import functional as F


def ms_deform_attn_forward(
    value: Tensor, shapes: Tensor, level_starts: Tensor, locations: Tensor, weights: Tensor, im2col_step: int
) -> Tensor:
    """Multi-scale deformable attention; value (B, N, H, c), locations (B, Q, H, L, P, 2) in [0, 1] -> (B, Q, H·c)."""
    B, _, H, c = value.shape
    levels = value.split([h * w for h, w in shapes.tolist()], dim=1)
    samples = []
    for (h, w), level, at in zip(shapes.tolist(), levels, locations.unbind(3), strict=True):
        level = level.permute(0, 2, 3, 1).reshape(B * H, c, h, w)  # (B, h·w, H, c) -> (B·H, c, h, w)
        at = 2 * at.transpose(1, 2).flatten(0, 1) - 1  # (B, Q, H, P, 2) -> (B·H, Q, P, 2) in [-1, 1]
        samples.append(F.grid_sample(level, at, align_corners=False))  # (B·H, c, Q, P)
    weights = weights.transpose(1, 2).flatten(0, 1).flatten(2)  # (B, Q, H, L, P) -> (B·H, Q, L·P)
    out = torch.einsum('bcqp,bqp->bcq', torch.cat(samples, dim=-1), weights)
    return out.reshape(B, H * c, -1).transpose(1, 2).contiguous()  # (B·H, c, Q) -> (B, Q, H·c)


def ms_deform_attn_backward(
    value: Tensor,
    shapes: Tensor,
    level_starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_locations: Tensor,
    grad_weights: Tensor,
    im2col_step: int,
) -> None:
    value, locations, weights = inputs = [x.detach().requires_grad_() for x in (value, locations, weights)]
    with torch.enable_grad():
        output = ms_deform_attn_forward(value, shapes, level_starts, locations, weights, im2col_step)
    grads = torch.autograd.grad(output, inputs, grad_output)
    for buffer, grad in zip((grad_value, grad_locations, grad_weights), grads, strict=True):
        buffer.copy_(grad)
