"""Average pooling of regions.

torchvision computes it in one thread on a CPU, where it takes an eighth of Mask R-CNN's time. So regions (forward) or
channels (backward) are split between some threads, which leaves every number as it is.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
import torchvision
from torch import Tensor

from xvit_det.compat.ops import missing, wide

FEW = 1 << 20  # values below which a second thread costs more than it saves
MANY = 8  # threads; each may start others, to copy its part


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
    input = wide(input).contiguous()
    rois = rois.to(input.dtype)

    def pool(regions: Tensor, pooled: Tensor) -> None:
        pooled.copy_(torchvision.ops.roi_align(input, regions, size, spatial_scale, sampling_ratio, aligned))

    _in_threads(pool, rois, output, dim=0)


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

    def spread(grad_regions: Tensor, grad_maps: Tensor) -> None:
        grad_maps.copy_(backward(grad_regions, rois, spatial_scale, *pooled, *grad_maps.shape, sampling_ratio, aligned))

    _in_threads(spread, grad_output, grad_input, dim=1)


def _in_threads(function: Callable[[Tensor, Tensor], None], given: Tensor, result: Tensor, dim: int) -> None:
    """Call the function on slices of both tensors along a dimension: on a CPU as many as PyTorch has threads, at most
    ``MANY``."""
    number = min(torch.get_num_threads(), MANY) if result.device.type == 'cpu' and result.numel() > FEW else 1
    parts = list(zip(given.chunk(number, dim), result.chunk(number, dim), strict=True))
    if len(parts) == 1:
        return function(given, result)
    inference = torch.is_inference_mode_enabled()  # these modes are a thread's own

    def run(part: tuple[Tensor, Tensor]) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            function(*part)

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(run, parts))  # raises what a thread has raised
