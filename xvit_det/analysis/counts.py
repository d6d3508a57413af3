"""Parameters and multiply-accumulate operations of a model."""

import copy
from collections.abc import Callable
from typing import Any

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
    return _count(model, size, in_channels, lambda shapes, image: shapes(image))


def count_detector_macs(detector: nn.Module, size: int | tuple[int, int] = (800, 1344)) -> int | None:
    """Count the multiply-accumulates of a whole detector of mmdet's in a prediction, for one image.

    The box heads of a two-stage detector are counted for all proposals that its ``test_cfg`` allows (1000 in mmdet's
    configs), its mask heads for all detections (100): an image with fewer takes less. RoIAlign and NMS do not count.

    Args:
        detector: A one-stage or two-stage detector.
        size: Height and width in pixels, or one number for both.

    Returns:
        The number, or ``None`` for a detector of another structure, such as a DETR.
    """
    if not (hasattr(detector, 'roi_head') or hasattr(getattr(detector, 'bbox_head', None), 'prior_generator')):
        return None
    return _count(detector, size, 3, _predict)


def _predict(detector: Any, image: torch.Tensor) -> None:
    """Run the layers of a prediction on tensors without numbers."""
    maps = detector.extract_feat(image)
    if not hasattr(detector, 'roi_head'):
        detector.bbox_head(maps)
        return
    detector.rpn_head(maps)
    roi_head, limits = detector.roi_head, detector.test_cfg
    _run_on_regions(roi_head.bbox_head, roi_head.bbox_roi_extractor, limits.rpn.max_per_img)
    if roi_head.with_mask:
        _run_on_regions(roi_head.mask_head, roi_head.mask_roi_extractor, limits.rcnn.max_per_img)


def _run_on_regions(heads: Any, extractors: Any, regions: int) -> None:
    """Run every stage of a cascade, or the only one, on as many regions."""
    if not isinstance(heads, nn.ModuleList):
        heads, extractors = [heads], [extractors]
    for head, extractor in zip(heads, extractors, strict=True):
        height, width = extractor.roi_layers[0].output_size
        head(torch.empty(regions, extractor.out_channels, height, width, device='meta'))


def _count(
    model: nn.Module, size: int | tuple[int, int], in_channels: int, run: Callable[[nn.Module, torch.Tensor], Any]
) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    shapes = copy.deepcopy(model).to('meta').requires_grad_(False)
    shapes.eval()  # which in some of mmpretrain's models returns nothing
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(shapes, torch.empty(1, in_channels, height, width, device='meta'))
    return counter.get_total_flops() // 2  # it counts a multiplication and an addition as two
