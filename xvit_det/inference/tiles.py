"""Detection in overlapping tiles, for images larger than what a model takes at once."""

from typing import Any

import numpy as np

from xvit_det.errors import InputError
from xvit_det.inference.images import read_image
from xvit_det.inference.predictor import Predictor
from xvit_det.inference.results import Prediction

SAME = 0.5  # IoU, within what two tiles share, from which on two boxes are of the same object


def check_tiles(model: Predictor, tile: int, overlap: float) -> None:
    """Raise an ``InputError`` unless the model is a detector, and the tiles have a size and an overlap."""
    if model.task != 'detection':
        raise InputError(f'tiles are for detectors, not for {model.task}: boxes are what is merged')
    if not isinstance(tile, int) or tile < 1 or not 0 <= overlap < 1:
        raise InputError(
            f'a tile has a whole number of pixels and an overlap from 0 to below 1, not {tile} and {overlap}'
        )


def predict_tiles(
    model: Predictor, image: Any, tile: int = 800, overlap: float = 0.2, *, score: float = 0.3
) -> Prediction:
    """Detect in overlapping tiles of an image and merge what was found.

    Each tile is predicted by itself, so nothing outside of it counts. An object that two tiles see is found twice,
    perhaps cut off in one of them. So of two boxes of one class from two tiles the larger stays, if they agree within
    the area that both tiles see. Boxes of one tile are left as the model gave them.

    Args:
        model: A detector.
        image: As for :meth:`Predictor.predict`, one.
        tile: Side in pixels.
        overlap: Of neighbours, a share of the side.
        score: Objects below it are left out.

    Raises:
        InputError: No such size or overlap, a model that is no detector, or an image that cannot be read.
    """
    check_tiles(model, tile, overlap)
    pixels = read_image(image)
    height, width = pixels.shape[:2]
    step = max(1, round(tile * (1 - overlap)))
    windows, parts = [], []
    for y in _starts(height, tile, step):
        for x in _starts(width, tile, step):
            window = (x, y, min(x + tile, width), min(y + tile, height))
            part = model.predict(
                np.ascontiguousarray(pixels[window[1] : window[3], window[0] : window[2]]), score=score
            )
            windows += [window] * len(part)
            parts.append((window, part))
    boxes = np.concatenate([part.regions()[0] + np.tile(window[:2], 2) for window, part in parts])
    labels = np.concatenate([part.labels for _, part in parts])
    scores = np.concatenate([part.scores for _, part in parts])
    kept = _without_repeats(boxes, labels, np.reshape(windows, (-1, 4)))
    kept = kept[(-scores[kept]).argsort(kind='stable')]
    masks = None
    sources = [(window, mask) for window, part in parts if part.masks is not None for mask in part.masks]
    if sources:
        masks = np.zeros((len(kept), height, width), bool)
        for target, i in zip(masks, kept, strict=True):
            (x1, y1, x2, y2), mask = sources[i]
            target[y1:y2, x1:x2] = mask
    return Prediction(
        labels[kept], scores[kept], model.classes, (height, width), boxes=boxes[kept], masks=masks, image=image
    )


def _starts(length: int, tile: int, step: int) -> list[int]:
    """Where tiles begin along a side; the last one ends with the image."""
    last = max(length - tile, 0)
    return [*range(0, last, step), last]


def _without_repeats(boxes: np.ndarray, labels: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Numbers of the boxes (N, 4) that stay, of tiles ``windows`` (N, 4), all as x1, y1, x2, y2."""
    kept: list[int] = []
    for i in (-_area(boxes)).argsort(kind='stable'):
        others = np.array([j for j in kept if labels[j] == labels[i] and (windows[j] != windows[i]).any()], int)
        shared = _intersection(windows[others], windows[i])
        ours, theirs = _intersection(shared, boxes[i]), _intersection(shared, boxes[others])
        both = _area(_intersection(ours, theirs))
        either = _area(ours) + _area(theirs) - both
        if not (both > SAME * either).any():
            kept.append(int(i))
    return np.array(kept, int)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of boxes (N, 4) and (N, 4) or (4,); where there is none, a box of no area."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    return np.concatenate((low, np.maximum(low, high)), axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
