"""How many objects of which class and size an annotation file has."""

from typing import Any, NamedTuple

import numpy as np

from xvit_det.coco.check import box_array, is_id, number_array

BOUNDS = (32**2, 96**2)  # areas in pixels between COCO's small, medium and large objects


class ClassCount(NamedTuple):
    """Of one class: objects in total, in how many images, by COCO's sizes, and the crowd regions beside them."""

    name: str
    objects: int
    images: int
    small: int
    medium: int
    large: int
    crowd: int


class Statistics(NamedTuple):
    """Counts by class in the order of the file, and the side √(wh) of each object's box in pixels."""

    classes: list[ClassCount]
    sides: np.ndarray


def summarize(content: dict[str, Any]) -> Statistics:
    """Count the annotations that have a category and a box; what is wrong with the others, the checks say.

    Args:
        content: From :func:`xvit_det.coco.reading.read_annotations`.
    """
    categories = [c for c in content['categories'] if isinstance(c, dict) and is_id(c.get('id'))]
    index = {category['id']: i for i, category in enumerate(categories)}
    annotations = [
        a
        for a in content.get('annotations', [])
        if isinstance(a, dict)
        and is_id(a.get('category_id'))
        and a['category_id'] in index
        and is_id(a.get('image_id'))
    ]
    boxes = box_array([annotation.get('bbox') for annotation in annotations])
    sane = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    annotations, boxes = [a for a, ok in zip(annotations, sane.tolist(), strict=True) if ok], boxes[sane]

    label = np.array([index[annotation['category_id']] for annotation in annotations], int)  # (n,)
    crowd = np.array([bool(annotation.get('iscrowd')) for annotation in annotations], bool)
    areas = number_array([annotation.get('area') for annotation in annotations])
    with np.errstate(over='ignore'):
        sides = np.sqrt(boxes[:, 2]) * np.sqrt(boxes[:, 3])
        areas = np.where(np.isfinite(areas), areas, sides**2)
    size = np.digitize(areas, BOUNDS)  # 0, 1, 2: small, medium, large
    table = np.zeros((len(categories), 3), int)
    np.add.at(table, (label[~crowd], size[~crowd]), 1)
    crowds = np.bincount(label[crowd], minlength=len(categories))
    pairs = {(i, a['image_id']) for i, a, c in zip(label.tolist(), annotations, crowd.tolist(), strict=True) if not c}
    images = np.bincount(np.array([i for i, _ in pairs], int), minlength=len(categories))
    columns = zip(table.sum(axis=1).tolist(), images.tolist(), *table.T.tolist(), crowds.tolist(), strict=True)
    classes = [ClassCount(str(c.get('name')), *row) for c, row in zip(categories, columns, strict=True)]
    return Statistics(classes, sides[~crowd])
