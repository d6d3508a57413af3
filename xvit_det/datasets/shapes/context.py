"""Scenes in context: a shape can only be named by looking far away. It has the key's colour, or another one.

At one end of a wide image stands the key, a large disc with a white rim, which is not annotated. At the other end, at
least ``REACH`` pixels away, are shapes of two colours, one of which is the key's. Those of the key's colour are
``same``, the others ``other``. The key's colour and each shape's are drawn evenly, so that nothing but the key tells
which is which.

The key is large because attention starts by averaging over all tokens: a key of few tokens is lost in that average, and
takes far longer to be found.
"""

import numpy as np

from xvit_det.datasets.shapes.drawing import Canvas, Dice, Scene, Stamp, ground, rgb, shrink

CONTEXT_CLASSES = ('same', 'other')
CONTEXT_PALETTE = ((60, 180, 105), (230, 85, 75))
"""One RGB colour per class, for drawing annotations and predictions."""

REACH = 180
"""Pixels: further than the convolutions of the demo's backbone and FPN see, which is 177 (a test measures it)."""

INKS = ('#e03a30', '#f2c832', '#2f9e50', '#2f6fdc', '#9a48d0')  # far enough apart to survive shading


def draw_context_scene(dice: Dice, size: int) -> Scene:
    """Draw a scene, three times as wide as high.

    Args:
        dice: The source of every choice.
        size: Height in pixels, at least 128: lower images have no room at that distance.

    Returns:
        An image with the key, and up to seven shapes, sometimes with a crowd, at the other end.
    """
    canvas = Canvas(ground(dice, size, 3 * size))
    colours = [dice.choice(INKS)]
    colours.append(dice.choice([ink for ink in INKS if ink not in colours]))
    key_colour, mirrored = dice.choice(colours), dice.chance(0.5)
    edge = _add_key(canvas, dice, _shade(dice, key_colour), mirrored)
    canvas.room = (0, edge - REACH) if mirrored else (edge + REACH, 3 * size)
    crowd = dice.chance(0.2)
    for number in range(dice.integer(4, 7) + crowd):
        colour = dice.choice(colours)
        name = 'same' if colour == key_colour else 'other'
        add = canvas.add_crowd if crowd and number == 0 else canvas.add_shape
        add(dice, name, _shade(dice, colour))
    return Scene(shrink(canvas.fine), canvas.owner, canvas.shapes)


def _add_key(canvas: Canvas, dice: Dice, ink: np.ndarray, mirrored: bool) -> int:
    """Draw the key at an end of the image, and return the column where it ends towards the other shapes."""
    height, width = canvas.owner.shape
    radius = height * dice.uniform(0.32, 0.36)
    x, y = radius + dice.uniform(0.01, 0.04) * height, dice.uniform(0.38, 0.62) * height
    x = width - x if mirrored else x
    rim, disc = (Stamp('circle', x, y, size, 0, canvas.owner.shape) for size in (radius, 0.85 * radius))
    canvas.paint(rim, dice, np.full(3, 255.0))
    canvas.paint(disc, dice, ink)
    return rim.columns.start if mirrored else rim.columns.stop


def _shade(dice: Dice, ink: str) -> np.ndarray:
    return rgb(ink) * dice.uniform(0.9, 1.05)
