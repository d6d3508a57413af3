"""Detection in overlapping tiles, for images larger than what a model takes at once."""

from typing import Any

import numpy as np

from xvit_det.errors import InputError
from xvit_det.inference.images import read_image
from xvit_det.inference.predictor import Predictor
from xvit_det.inference.results import Prediction, import_supervision


def predict_tiles(
    model: Predictor, image: Any, tile: int = 800, overlap: float = 0.2, *, score: float = 0.3
) -> Prediction:
    """Detect in overlapping tiles of an image and merge what was found.

    Each tile is predicted by itself, so nothing outside of it counts. Of objects of a class that cover each other,
    because two tiles share them, the one with the better score stays; half an object at the edge of a tile counts as
    covered by the whole one.

    Args:
        model: A detector.
        image: As for :meth:`Predictor.predict`, one.
        tile: Side in pixels.
        overlap: Of neighbours, a share of the side.
        score: Objects below it are left out.

    Raises:
        InputError: No such size or overlap, a model that is no detector, an image that cannot be read, or no
            supervision.
    """
    if tile < 1 or not 0 <= overlap < 1:
        raise InputError(f'a tile has at least 1 pixel and an overlap from 0 to below 1, not {tile} and {overlap}')
    supervision = import_supervision()
    pixels = read_image(image)

    def detect(part: np.ndarray) -> Any:
        found = model.predict(np.ascontiguousarray(part), score=score)
        if found.boxes is None:
            raise InputError('tiles are for detectors: what they find is merged by its boxes')
        return found.to_supervision()

    slicer = supervision.InferenceSlicer(
        detect,
        slice_wh=tile,
        overlap_wh=int(tile * overlap),
        overlap_metric=supervision.detection.utils.iou_and_nms.OverlapMetric.IOS,
        thread_workers=1,
        compact_masks=True,
    )
    found = slicer(pixels)
    common: dict[str, Any] = dict(classes=model.classes, size=pixels.shape[:2], image=image)
    if found.is_empty():
        return Prediction(np.zeros(0, int), np.zeros(0), boxes=np.zeros((0, 4)), **common)
    masks = None if found.mask is None else np.asarray(found.mask, dtype=bool)
    merged = Prediction(found.class_id, found.confidence, boxes=found.xyxy, masks=masks, **common)
    return merged.select((-merged.scores).argsort(kind='stable'))
