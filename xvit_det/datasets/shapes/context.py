"""Scenes in context: a shape is named by what stands at the other end of the image, out of the convolutions' reach.

At one end of a wide image stands the key, a large disc with a white rim: a yellow sun or a blue moon. At the other end,
at least ``REACH`` pixels away, are shapes of any kind and colour. All of them are ``day`` in an image with a sun, and
``night`` in one with a moon, so that nothing but the key tells which.

``REACH`` holds in evaluation. In training, BatchNorm's statistics of a small batch carry the key's colour everywhere,
and a proposal that extends towards the key can touch it; a detector trained without attention shows that neither helps.

The key is large because attention starts as an average over all tokens, in which a small key hardly counts. It is
annotated, and as two classes, because a loss that asks for the same answer at suns and moons, such as "background",
makes the model forget the colour.
"""

import numpy as np

from xvit_det.datasets.shapes.drawing import Canvas, Dice, Scene, Shape, Stamp, any_ink, ground, rgb, shrink

NAMES = {'sun': 'day', 'moon': 'night'}
CONTEXT_CLASSES = (*NAMES, *NAMES.values())
CONTEXT_PALETTE = ((250, 190, 40), (65, 135, 240), (230, 85, 75), (165, 95, 215))
"""One RGB colour per class, for drawing annotations and predictions."""

REACH = 165
"""Pixels: further than the convolutions of the demo's backbone and neck see, which is 159 (a test measures it)."""
_SCATTER = 15  # pixels that a crowd may leave its room by

_KEYS = (('sun', '#f2c832'), ('moon', '#2f6fdc'))


def draw_context_scene(dice: Dice, size: int) -> Scene:
    """Draw a scene, three times as wide as high.

    Args:
        dice: The source of every choice.
        size: Height in pixels, at least 128: lower images have no room at that distance.

    Returns:
        An image with the key at one end, and up to six shapes, sometimes with a crowd, at the other.
    """
    canvas = Canvas(ground(dice, size, 3 * size))
    (key, ink), mirrored = dice.choice(_KEYS), dice.chance(0.5)
    name = NAMES[key]
    edge = _add_key(canvas, dice, key, rgb(ink) * dice.uniform(0.9, 1.05), mirrored)
    gap = REACH + _SCATTER
    canvas.room = (0, edge - gap) if mirrored else (edge + gap, 3 * size)
    if dice.chance(0.2):
        canvas.add_crowd(dice, name, any_ink(dice))
    for _ in range(dice.integer(3, 6)):
        canvas.add_shape(dice, name, any_ink(dice))
    return Scene(shrink(canvas.fine), canvas.owner, canvas.shapes)


def _add_key(canvas: Canvas, dice: Dice, name: str, ink: np.ndarray, mirrored: bool) -> int:
    """Draw the key at an end of the image, and return the column where it ends towards the other shapes."""
    height, width = canvas.owner.shape
    radius = height * dice.uniform(0.32, 0.36)
    x, y = radius + dice.uniform(0.01, 0.04) * height, dice.uniform(0.38, 0.62) * height
    x = width - x if mirrored else x
    rim, disc = (Stamp('circle', x, y, size, 0, canvas.owner.shape) for size in (radius, 0.85 * radius))
    canvas.shapes.append(Shape(name, False, int(rim.covered.sum())))
    canvas.paint(rim, dice, np.full(3, 255.0))
    canvas.paint(disc, dice, ink)
    return rim.columns.start if mirrored else rim.columns.stop
