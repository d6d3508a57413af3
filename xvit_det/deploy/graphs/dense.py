"""Anchor-based dense heads: the proposals of an RPN, and the detections of RetinaNet."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xvit_det.deploy.graphs.boxes import Boxes, check_coder, decode, nms_iou, scale, suppress, true_at, within_limit
from xvit_det.errors import InputError


def check_dense_head(head: Any) -> None:
    """Raise an ``InputError`` for a dense head whose predictions are made in another way than here."""
    check_coder(head.bbox_coder)
    known = {'AnchorHead', 'RPNHead', 'RetinaHead', 'RetinaSepBNHead'}
    if type(head).__name__ not in known:
        raise InputError(f'export knows the dense heads {", ".join(sorted(known))}, not {type(head).__name__}')
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        raise InputError(f'export does not know the scores of {type(head.loss_cls).__name__}')
    nms_iou(head.test_cfg.nms)


def dense_boxes(head: Any, maps: Sequence[Tensor], sizes: Tensor, factors: Tensor | None = None) -> Boxes:
    """What a dense head finds, after NMS.

    Args:
        head: mmdet's ``RPNHead`` or ``RetinaHead``.
        maps: The neck's maps (B, C, h, w).
        sizes: (B, 2), height and width of each image within the batch.
        factors: (B, 2), by which boxes are multiplied before NMS; ``None``: they stay in pixels of the batch.
    """
    cfg = head.test_cfg
    is_rpn = type(head).__name__ == 'RPNHead'
    cls_scores, deltas = head(maps)
    priors = head.prior_generator.grid_priors([x.shape[-2:] for x in cls_scores], device=sizes.device)
    levels = [
        _best(head, *level, limit=cfg.get('nms_pre', -1)) for level in zip(cls_scores, deltas, priors, strict=True)
    ]
    scores, labels, level_deltas, anchors = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))  # (B, K)
    if is_rpn:
        labels = torch.cat([torch.full_like(level[1], i) for i, level in enumerate(levels)], dim=1)
    boxes = decode(anchors, level_deltas, head.bbox_coder, sizes[:, None])
    if factors is not None:
        boxes = scale(boxes, factors[:, None])
    valid = scores > (0 if is_rpn else cfg.get('score_thr', 0))
    if cfg.get('min_bbox_size', -1) >= 0:
        valid = valid & (boxes[..., 2:] - boxes[..., :2] > cfg.min_bbox_size).all(-1)
    image, slot = true_at(valid).unbind(1)
    found = Boxes(image, boxes[image, slot], scores[image, slot], labels[image, slot])
    found = found.take(suppress(found.boxes, found.scores, found.labels, found.images, nms_iou(cfg.nms)))
    return found.take(within_limit(found.images, sizes.shape[0], cfg.max_per_img))


def _best(
    head: Any, cls_score: Tensor, deltas: Tensor, anchors: Tensor, limit: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best predictions of a level: scores (B, K), classes (B, K), deltas (B, K, 4) and anchors (B, K, 4).

    A level with fewer than ``limit`` is filled up with scores of -1, which makes K a constant.
    """
    scores = cls_score.permute(0, 2, 3, 1).unflatten(3, (-1, head.cls_out_channels)).flatten(1, 3)  # -> (B, n, classes)
    scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
    classes = scores.shape[2]
    deltas = deltas.permute(0, 2, 3, 1).unflatten(3, (-1, 4)).flatten(1, 3)  # (B, A·4, h, w) -> (B, n, 4)
    scores = scores.flatten(1)  # (B, n, classes) -> (B, n·classes)
    if limit > 0:
        filled = torch.cat((scores, scores.new_full((1, limit), -1).expand(scores.shape[0], -1)), dim=1)
        scores, index = filled.topk(limit, dim=1)
        index = index.clamp(max=deltas.shape[1] * classes - 1)
    else:
        index = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape[0], -1)
    row = index // classes
    return scores, index % classes, deltas.gather(1, row[..., None].expand(-1, -1, 4)), anchors[row]
