"""Non-maximum suppression, hard and soft, and the groups of boxes that it forms."""

import torch
import torchvision
from torch import Tensor


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return indices of the boxes (N, 4) kept, best first; ``offset=1`` counts a box's last pixel as inside.

    Of boxes with equal scores, the one given first comes first, here and below; in mmcv their order is arbitrary.
    """
    # mmcv compares in float32, where an overlap of 1/10 is not above a threshold of 0.1; in double it is.
    threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    return torchvision.ops.nms(_grown(boxes.float(), offset), scores.float(), threshold)


def _grown(boxes: Tensor, offset: int) -> Tensor:
    return boxes + boxes.new_tensor([0, 0, offset, offset])


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS; ``method`` 0: naive, 1: linear, 2: gaussian. Fills ``dets`` (N, 5), returns the indices of its rows."""
    left = torch.arange(len(boxes), device=boxes.device)  # boxes not yet taken, in the order given
    grown, scores = _grown(boxes, offset), scores.clone()
    taken: list[Tensor] = []
    while len(left):
        at = scores[left].argmax()
        best, left = left[at], torch.cat([left[:at], left[at + 1 :]])
        dets[len(taken), :4], dets[len(taken), 4] = boxes[best], scores[best]
        taken.append(best)
        overlap = torchvision.ops.box_iou(grown[best, None], grown[left])[0]
        if method == 2:
            weight = torch.exp(-overlap * overlap / sigma)
        else:
            weight = torch.where(overlap >= iou_threshold, 1 - overlap if method == 1 else 0.0, 1.0)
        scores[left] *= weight
        left = left[scores[left] >= min_score]
    return torch.stack(taken) if taken else left


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return groups of indices of ``dets`` (N, 5): a box that is kept, then those that it suppresses, best first.

    Unlike in :func:`nms`, a box is suppressed from the threshold on.
    """
    boxes, threshold = dets[:, :4].float(), torch.tensor(iou_threshold, dtype=torch.float32)
    left = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(left):
        best, left = left[:1], left[1:]
        suppressed = torchvision.ops.box_iou(boxes[best], boxes[left])[0] >= threshold
        groups.append([*best.tolist(), *left[suppressed].tolist()])
        left = left[~suppressed]
    return groups
