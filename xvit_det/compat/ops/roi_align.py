"""Average pooling of regions."""

import torch
import torchvision
from torch import Tensor

from xvit_det.compat.ops import missing, wide


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average pooling of regions (K, 5) of maps (B, C, H, W) into ``output`` (K, C, height, width)."""
    if pool_mode == 0:
        raise missing('roi_align with pool_mode="max"')
    size = (aligned_height, aligned_width)
    input, rois = wide(input), rois.to(wide(input).dtype)
    output.copy_(torchvision.ops.roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    grad_output = wide(grad_output)
    rois, pooled = rois.to(grad_output.dtype), (aligned_height, aligned_width)
    backward = torch.ops.torchvision._roi_align_backward
    grad_input.copy_(backward(grad_output, rois, spatial_scale, *pooled, *grad_input.shape, sampling_ratio, aligned))
