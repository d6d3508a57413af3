"""Boxes of a batch as flat lists, with the number of each box's image beside it, so that a graph has no loop over
images: decoding, non-maximum suppression, and the limit of boxes for each image."""

import math
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor

from xvit_det.errors import InputError


class Boxes(NamedTuple):
    """Boxes of a batch as one list.

    Attributes:
        images: (M,), the number of each box's image in the batch.
        boxes: (M, 4) as x1, y1, x2, y2 in pixels.
        scores: (M,).
        labels: (M,), class numbers; in an RPN the pyramid's level.
    """

    images: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def take(self, indices: Tensor) -> 'Boxes':
        """Some of them, in this order."""
        return Boxes(*(values[indices] for values in self))


def true_at(mask: Tensor) -> Tensor:
    """Indices of the true elements: (M, d) for a mask of d dimensions."""
    indices = mask.nonzero()
    # Known to be no astronomic number: ONNX has no integers of more than 64 bits to compare sums of lengths with.
    torch._check(indices.shape[0] < 2**31)
    return indices


def check_coder(coder: Any) -> None:
    """Raise an ``InputError`` unless :func:`decode` computes what mmdet's box coder does."""
    name = type(coder).__name__
    if name != 'DeltaXYWHBBoxCoder' or coder.add_ctr_clamp:
        raise InputError(f'export knows the boxes of DeltaXYWHBBoxCoder without add_ctr_clamp, not those of {name}')


def decode(anchors: Tensor, deltas: Tensor, coder: Any, limits: Tensor) -> Tensor:
    """Boxes from anchors and the model's deltas (R-CNN, arXiv 1311.2524, appendix C).

    Args:
        anchors: (..., 4) as x1, y1, x2, y2.
        deltas: (..., 4).
        coder: mmdet's ``DeltaXYWHBBoxCoder``, for its numbers.
        limits: (..., 2), height and width of the image of each.

    Returns:
        Boxes (..., 4), cut at the image's border.
    """
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    low, high = anchors.chunk(2, dim=-1)
    size = high - low
    longest = -math.log(16 / 1000)  # mmdet's limit of how much longer than its anchor a box is
    centre = (low + high) * 0.5 + size * deltas[..., :2]
    half = size * deltas[..., 2:].clamp(-longest, longest).exp() * 0.5
    boxes = torch.cat((centre - half, centre + half), dim=-1)
    return clip(boxes, limits) if coder.clip_border else boxes


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes (..., 4) cut at the border of their images, whose heights and widths are ``limits`` (..., 2)."""
    corner = limits.flip(-1).to(boxes.dtype)  # x, y
    return boxes.clamp(min=0).minimum(torch.cat((corner, corner), dim=-1))


def scale(boxes: Tensor, factors: Tensor) -> Tensor:
    """Boxes (..., 4) times ``factors`` (..., 2), of y and of x."""
    factors = factors.flip(-1)  # of x, y
    return boxes * torch.cat((factors, factors), dim=-1)


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, images: Tensor, iou: float) -> Tensor:
    """Non-maximum suppression within each group (class or level) of each image.

    Boxes of different groups are moved apart along x and those of different images along y, as in mmcv, so that one
    call does them all.

    Args:
        boxes, scores, groups, images: (M, 4), (M,), (M,), (M,).
        iou: A box goes that overlaps one of a higher score more than that.

    Returns:
        Numbers of the boxes that stay, the highest score first.
    """
    step = torch.cat((boxes.flatten(), boxes.new_zeros(1))).amax(0) + 1
    moved = boxes + torch.stack((groups, images, groups, images), dim=1).to(boxes.dtype) * step
    # torchvision tells the exporter that two boxes stay, at least. Two spare ones, far from the others, keep its word.
    far = torch.cat((moved.flatten(), step[None])).amax(0)
    spare = far + step * moved.new_tensor([[1, 1, 2, 2], [3, 3, 4, 4]])
    kept = torchvision.ops.nms(torch.cat((moved, spare)), torch.cat((scores, scores.new_full((2,), -1))), iou)
    return kept[true_at(kept < scores.shape[0])[:, 0]]


def within_limit(images: Tensor, batch_size: int, limit: int) -> Tensor:
    """Numbers of the first ``limit`` boxes of each image, or of all with a limit of -1: (M,) -> (K,)."""
    if limit <= 0:
        return torch.arange(images.shape[0], device=images.device)
    of_image = images[:, None] == torch.arange(batch_size, device=images.device)  # (M, B)
    rank = of_image.long().cumsum(0).gather(1, images[:, None])[:, 0]  # 1 for an image's first
    return true_at(rank <= limit)[:, 0]


def nms_iou(settings: Any) -> float:
    """The threshold of mmdet's NMS settings.

    Raises:
        InputError: Another kind of NMS than the plain one.
    """
    known = {'type', 'iou_threshold', 'split_thr'}
    if not settings or settings.get('type', 'nms') != 'nms' or set(settings) - known:
        raise InputError(f'export knows plain NMS (type nms, iou_threshold), not nms={settings and dict(settings)}')
    return float(settings['iou_threshold'])
