"""R-CNN's second stage: regions are cut out of the maps, classified, refined, and given masks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align

from xvit_det.deploy.graphs.boxes import Boxes, check_coder, decode, nms_iou, scale, suppress, true_at, within_limit
from xvit_det.errors import InputError


def check_roi_head(head: Any) -> None:
    """Raise an ``InputError`` for a second stage that works in another way than here."""
    if type(head).__name__ != 'StandardRoIHead' or head.with_shared_head:
        raise InputError(f'export knows StandardRoIHead without a shared head, not {type(head).__name__}')
    check_coder(head.bbox_head.bbox_coder)
    if head.bbox_head.custom_cls_channels:
        raise InputError(f'export does not know the scores of {type(head.bbox_head.loss_cls).__name__}')
    nms_iou(head.test_cfg.nms)
    extractors = [head.bbox_roi_extractor, *([head.mask_roi_extractor] if head.with_mask else [])]
    for extractor in extractors:
        layer = extractor.roi_layers[0]
        if type(extractor).__name__ != 'SingleRoIExtractor' or getattr(layer, 'pool_mode', '') != 'avg':
            raise InputError(f'export knows SingleRoIExtractor with RoIAlign, not {type(extractor).__name__}')
    if head.with_mask and type(head.mask_head).__name__ != 'FCNMaskHead':
        raise InputError(f'export knows the masks of FCNMaskHead, not those of {type(head.mask_head).__name__}')


def region_features(extractor: Any, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
    """RoIAlign, each region from the level that fits its size (arXiv 1612.03144, Equation 1).

    Args:
        extractor: mmdet's ``SingleRoIExtractor``, for its numbers.
        maps: (B, C, h, w), at least as many as the extractor has levels.
        rois: (M, 5): number of the image, and x1, y1, x2, y2.

    Returns:
        (M, C, s, s).
    """
    layers = extractor.roi_layers
    level = extractor.map_roi_levels(rois, len(layers))
    size = layers[0].output_size
    features = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], *size)
    for i, (layer, x) in enumerate(zip(layers, maps, strict=False)):
        chosen = true_at(level == i)[:, 0]
        part = roi_align(x, rois[chosen], size, layer.spatial_scale, layer.sampling_ratio, layer.aligned)
        features = features.index_copy(0, chosen, part)
    return features


def region_boxes(
    head: Any, maps: Sequence[Tensor], proposals: Boxes, sizes: Tensor, factors: Tensor | None = None
) -> Boxes:
    """Classify and refine proposals, then NMS for each class.

    Args:
        head: mmdet's ``StandardRoIHead``.
        maps: The neck's maps (B, C, h, w).
        proposals: In pixels of the batch.
        sizes: (B, 2), height and width of each image within the batch.
        factors: (B, 2), by which boxes are multiplied before NMS; ``None``: they stay in pixels of the batch.
    """
    cfg, box_head = head.test_cfg, head.bbox_head
    predicted = box_head(region_features(head.bbox_roi_extractor, maps, _rois(proposals)))
    cls_score, deltas = (values[:-1] for values in predicted)
    scores = cls_score.softmax(-1)[:, :-1]  # (M, classes); the last is the background
    deltas = deltas.unflatten(1, (-1, 4))  # (M, classes or 1, 4)
    boxes = decode(proposals.boxes[:, None], deltas, box_head.bbox_coder, sizes[proposals.images][:, None])
    if factors is not None:
        boxes = scale(boxes, factors[proposals.images][:, None])
    row, label = true_at(scores > cfg.score_thr).unbind(1)
    chosen = boxes[row, 0] if box_head.reg_class_agnostic else boxes[row, label]
    found = Boxes(proposals.images[row], chosen, scores[row, label], label)
    found = found.take(suppress(found.boxes, found.scores, found.labels, found.images, nms_iou(cfg.nms)))
    return found.take(within_limit(found.images, sizes.shape[0], cfg.max_per_img))


def region_masks(head: Any, maps: Sequence[Tensor], found: Boxes) -> Tensor:
    """The mask of each box, as probabilities (M, s, s) over the box."""
    features = region_features(head.mask_roi_extractor, maps, _rois(found))
    logits = head.mask_head(features)[:-1]  # (M, classes or 1, s, s)
    if head.mask_head.class_agnostic:
        return logits[:, 0].sigmoid()
    return logits[torch.arange(logits.shape[0], device=logits.device), found.labels].sigmoid()


def paste(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    """Masks over boxes as masks over the image, resampled bilinearly as mmdet's mask head does.

    The resampling of rows and columns are two products with small matrices.

    Args:
        masks: (M, s, s).
        boxes: (M, 4).
        height, width: Of the image.
        threshold: From which probability on a pixel belongs to the mask.

    Returns:
        (M, height, width) bool.
    """
    side = masks.shape[-1]
    rows = _weights(boxes[:, 1], boxes[:, 3], height, side)  # (M, height, s)
    columns = _weights(boxes[:, 0], boxes[:, 2], width, side)  # (M, width, s)
    return rows @ masks @ columns.mT >= threshold


def _weights(low: Tensor, high: Tensor, length: int, side: int) -> Tensor:
    """What each of ``side`` cells between two edges (M,) adds to each of ``length`` pixels: (M, length, side)."""
    pixel = torch.arange(length, device=low.device) + 0.5
    position = (pixel - low[:, None]) / (high - low)[:, None] * side - 0.5  # in cells: (M, length)
    cells = torch.arange(side, device=low.device)
    return (1 - (position[..., None] - cells).abs()).clamp(min=0)


def _rois(found: Boxes) -> Tensor:
    """(M + 1, 5): number of the image and box of each, and a spare one at the end: heads with norms cannot be computed
    for no region at all in ONNX."""
    rois = torch.cat((found.images[:, None].to(found.boxes.dtype), found.boxes), dim=1)
    spare = torch.cat((rois.new_zeros(1, 3), rois.new_ones(1, 2)), dim=1)
    return torch.cat((rois, spare))
