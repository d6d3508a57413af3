"""Mosaics: large drawn images with small objects, and the crops on which a detector learns to find them.

A mosaic is made of fields of 320 x 320 pixels, side by side. Each has a ground of its own and a few shapes of 12 to 40
pixels, which neither overlap nor reach over its border.
"""

import json
import math
from pathlib import Path

import cv2
import numpy as np

from xvit_det.datasets.shapes import CLASSES
from xvit_det.datasets.shapes.drawing import MAX_TILT, Canvas, Dice, Scene, Shape, Stamp, any_ink, ground, shrink

FIELD = 320
SHAPES = 4
RADII = (6, 20)
"""Pixels of the circle around a shape, uniform in the logarithm."""


def draw_field(dice: Dice, shapes: int = SHAPES) -> Scene:
    """Draw a field; shapes that would overlap earlier ones are left out."""
    canvas = Canvas(ground(dice, FIELD, FIELD))
    for _ in range(shapes):
        kind, ink = dice.choice(CLASSES), any_ink(dice)
        radius = RADII[0] * math.exp(dice.uniform(0, math.log(RADII[1] / RADII[0])))
        x, y = (dice.uniform(radius + 2, FIELD - radius - 2) for _ in range(2))
        stamp = Stamp(kind, x, y, radius, dice.uniform(-MAX_TILT, MAX_TILT), canvas.owner.shape)
        if not canvas.owner[stamp.rows, stamp.columns].any():
            canvas.shapes.append(Shape(kind, False, int(stamp.covered.sum())))
            canvas.paint(stamp, dice, ink)
    return Scene(shrink(canvas.fine), canvas.owner, canvas.shapes)


def draw_mosaic(dice: Dice, rows: int, columns: int) -> tuple[np.ndarray, list[dict]]:
    """Draw a mosaic of ``rows`` x ``columns`` fields.

    Returns:
        The image (H, W, 3) in RGB, and COCO's annotations of its objects without their numbers.
    """
    image = np.empty((rows * FIELD, columns * FIELD, 3), np.uint8)
    objects = []
    for top, left in np.ndindex(rows, columns):
        y, x = top * FIELD, left * FIELD
        scene = draw_field(dice)
        image[y : y + FIELD, x : x + FIELD] = scene.image
        for index, shape in enumerate(scene.shapes, start=1):
            column, row, width, height = cv2.boundingRect((scene.owner == index).astype(np.uint8))
            box = [x + column, y + row, width, height]
            category = CLASSES.index(shape.kind) + 1
            objects.append(dict(category_id=category, bbox=box, area=shape.pixels, iscrowd=0))
    return image, objects


def write_mosaics(folder: Path, images: int, rows: int, columns: int, seed: int) -> Path:
    """Draw a COCO folder, unless it is there, and return its annotation file, which is written last.

    Images are BMP files: decoding a large PNG takes as long as a training step.
    """
    file = folder / f'{images}x{rows}x{columns}_seed{seed}.json'
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    coco: dict[str, list[dict]] = dict(
        images=[], annotations=[], categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES, start=1)]
    )
    for number in range(1, images + 1):
        image, objects = draw_mosaic(Dice(seed, number), rows, columns)
        name = f'{file.stem}_{number:04d}.bmp'
        cv2.imwrite(str(folder / name), image[..., ::-1])
        height, width = image.shape[:2]
        coco['images'].append(dict(id=number, file_name=name, height=height, width=width))
        for annotation in objects:
            coco['annotations'].append(dict(id=len(coco['annotations']) + 1, image_id=number) | annotation)
    file.write_text(json.dumps(coco))
    return file
