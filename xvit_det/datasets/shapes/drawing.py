"""Draw one scene: overlapping coloured shapes on a textured background, and which shape each pixel belongs to.

Every random choice is a function of ``Generator.random`` alone. numpy keeps PCG64's stream fixed, so a seed gives the
same scene everywhere. Shapes are painted `OVERSAMPLE` times larger and averaged down, for smooth edges.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
PALETTE = ((230, 85, 75), (65, 135, 240), (250, 190, 40), (60, 180, 105), (165, 95, 215), (240, 120, 190))
"""One RGB colour per class, for drawing annotations and predictions (a shape itself may have any colour)."""

OVERSAMPLE = 4
MIN_VISIBLE_PIXELS = 24
MIN_VISIBLE_PART = 0.6
MAX_TILT = math.radians(20)
_INKS = ('#e6453c', '#f28c28', '#f6d13b', '#7bc950', '#2a9d6f', '#36b5d8', '#3366cc', '#8054c7', '#e868a2', '#f4f1e8')
_GROUNDS = ('#31424f', '#6b7f5e', '#a08c6b', '#7d93a6', '#c9bfa8', '#574b60', '#8fa89b', '#b08f86')
Option = TypeVar('Option')


class Dice:
    """Random choices for one image, all made from uniform numbers of a PCG64 stream.

    Args:
        *key: Whole numbers that name the stream, such as seed, split and image number.
    """

    def __init__(self, *key: int) -> None:
        self.rng = np.random.Generator(np.random.PCG64(key))

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def choice(self, options: Sequence[Option]) -> Option:
        return options[self.integer(0, len(options) - 1)]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability


@dataclass
class Shape:
    """One annotated thing in a scene: a single shape, or a crowd of tiny ones of the same class."""

    kind: str
    crowd: bool
    pixels: int
    """Pixels inside the image before anything covered them."""


@dataclass
class Scene:
    image: np.ndarray
    """(H, W, 3) uint8, RGB."""
    owner: np.ndarray
    """(H, W) uint8: 0 for the background, i + 1 where shape i is visible."""
    shapes: list[Shape]


def draw_scene(dice: Dice, size: int) -> Scene:
    """Draw a square scene.

    Args:
        dice: The source of every choice.
        size: Side in pixels.

    Returns:
        An image with two to five shapes, sometimes with a crowd behind them. At least `MIN_VISIBLE_PART` of every
        single shape is visible, neither covered nor cut off by the border.
    """
    canvas = Canvas(ground(dice, size, size))
    if dice.chance(0.25):
        canvas.add_crowd(dice)
    for _ in range(dice.integer(2, 5)):
        canvas.add_shape(dice)
    return Scene(shrink(canvas.fine), canvas.owner, canvas.shapes)


class Canvas:
    """The unfinished image: the oversampled paint, the owner of each pixel and the shapes so far."""

    def __init__(self, background: np.ndarray) -> None:
        self.size = len(background)
        self.fine = background.repeat(OVERSAMPLE, axis=0).repeat(OVERSAMPLE, axis=1)
        self.owner = np.zeros(background.shape[:2], np.uint8)
        self.room = (0, self.owner.shape[1])
        """Columns that new shapes keep to."""
        self.shapes: list[Shape] = []
        self.discs: list[tuple[float, float, float]] = []

    def add_shape(self, dice: Dice, name: str | None = None, ink: np.ndarray | None = None) -> None:
        """Put one more shape on top, if a place is found that does not hide another one too much.

        Args:
            dice: The source of every choice.
            name: Its class; by default its kind.
            ink: Its colour; by default any.
        """
        kind, ink = dice.choice(CLASSES), any_ink(dice) if ink is None else ink
        for _ in range(8):
            # From a fifth to half of the image across, uniform in the logarithm: small ones are common.
            radius = self.size * 0.1 * math.exp(dice.uniform(0, math.log(2.5)))
            x, y = self._place(dice, radius)
            stamp = Stamp(kind, x, y, radius, _tilt(dice), self.owner.shape)
            if self._is_fair(stamp):
                self.discs.append((x, y, radius))
                self.shapes.append(Shape(name or kind, False, int(stamp.covered.sum())))
                self.paint(stamp, dice, ink)
                return

    def add_crowd(self, dice: Dice, name: str | None = None, ink: np.ndarray | None = None) -> None:
        """Scatter tiny shapes of one class and colour family; together they are one crowd region."""
        kind, ink = dice.choice(CLASSES), any_ink(dice) if ink is None else ink
        spread = self.size * dice.uniform(0.10, 0.18)
        left, right = self.room
        x, y = left + dice.uniform(0.2, 0.8) * (right - left), dice.uniform(0.2, 0.8) * self.size
        self.shapes.append(Shape(name or kind, True, 0))
        for _ in range(dice.integer(10, 22)):
            angle, distance = dice.uniform(0, 2 * math.pi), spread * math.sqrt(dice.uniform(0, 1))
            radius = self.size * dice.uniform(0.018, 0.028)
            centre = x + 1.4 * distance * math.cos(angle), y + 0.8 * distance * math.sin(angle)
            self.paint(Stamp(kind, *centre, radius, _tilt(dice), self.owner.shape), dice, ink)
        self.shapes[-1].pixels = int((self.owner == len(self.shapes)).sum())

    def _place(self, dice: Dice, radius: float) -> tuple[float, float]:
        """A centre: half of the time beside an earlier shape, so that the two overlap, otherwise anywhere."""
        if self.discs and dice.chance(0.5):
            x, y, other = dice.choice(self.discs)
            angle, distance = dice.uniform(0, 2 * math.pi), dice.uniform(0.6, 1.0) * (radius + other)
            return x + distance * math.cos(angle), y + distance * math.sin(angle)
        left, right = self.room
        return left + dice.uniform(0.04, 0.96) * (right - left), dice.uniform(0.04, 0.96) * self.size

    def _is_fair(self, stamp: 'Stamp') -> bool:
        """Whether the new shape and all single shapes below it stay visible enough to be recognised."""
        if stamp.columns.start < self.room[0] or stamp.columns.stop > self.room[1]:
            return False
        if stamp.covered.sum() < max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_PART * stamp.whole_pixels):
            return False
        seen = np.bincount(self.owner.ravel(), minlength=len(self.shapes) + 1)
        hidden = np.bincount(self.owner[stamp.rows, stamp.columns][stamp.covered], minlength=len(seen))
        left = (seen - hidden)[1:]
        return all(
            pixels >= MIN_VISIBLE_PART * shape.pixels and (shape.crowd or pixels >= MIN_VISIBLE_PIXELS)
            for pixels, shape in zip(left, self.shapes, strict=True)
        )

    def paint(self, stamp: 'Stamp', dice: Dice, ink: np.ndarray) -> None:
        """Colour the stamp's pixels and make the newest shape their owner."""
        if not stamp.fine.size:
            return
        self.owner[stamp.rows, stamp.columns][stamp.covered] = len(self.shapes)
        fill = stamp.fine > 0
        inside = cv2.erode(stamp.fine, np.ones((5, 5), np.uint8)) > 0
        light = _light(dice, *stamp.fine.shape, self.size * OVERSAMPLE)
        shade = np.where(inside, light, 0.55 * light)[fill]
        colour = np.rint(np.clip(ink * shade[:, None], 0, 255))
        self.fine[stamp.fine_rows, stamp.fine_columns][fill] = colour.astype(np.uint8)


class Stamp:
    """A shape's mask cut out around it: `fine` oversampled, `covered` in image pixels that are at least half full."""

    def __init__(self, kind: str, x: float, y: float, radius: float, angle: float, frame: tuple[int, int]) -> None:
        reach = radius + 2
        left, right = (min(max(int(edge), 0), frame[1]) for edge in (x - reach, x + reach + 1))
        top, bottom = (min(max(int(edge), 0), frame[0]) for edge in (y - reach, y + reach + 1))
        self.rows, self.columns = slice(top, bottom), slice(left, right)
        self.fine_rows = slice(top * OVERSAMPLE, bottom * OVERSAMPLE)
        self.fine_columns = slice(left * OVERSAMPLE, right * OVERSAMPLE)
        height, width = bottom - top, right - left
        self.fine = np.zeros((height * OVERSAMPLE, width * OVERSAMPLE), np.uint8)
        contours = [
            np.rint((points + (x - left, y - top)) * OVERSAMPLE).astype(np.int32)
            for points in outline(kind, radius, angle)
        ]
        if self.fine.size:
            cv2.fillPoly(self.fine, contours, OVERSAMPLE**2)
        self.covered = shrink(self.fine) >= OVERSAMPLE**2 // 2
        area = sum(cv2.contourArea(c, oriented=True) for c in contours)
        self.whole_pixels = abs(area) / OVERSAMPLE**2


def shrink(fine: np.ndarray) -> np.ndarray:
    """Average blocks of pixels: (4h, 4w) or (4h, 4w, 3) to (h, w) or (h, w, 3), exactly, as 16 is a power of two."""
    if not fine.size:
        return fine
    return cv2.resize(fine, None, fx=1 / OVERSAMPLE, fy=1 / OVERSAMPLE, interpolation=cv2.INTER_AREA)


def outline(kind: str, radius: float, angle: float) -> list[np.ndarray]:
    """The closed curves that bound a shape; a second one cuts a hole.

    Args:
        kind: One of `CLASSES`.
        radius: Radius of the circle around it, in pixels.
        angle: Rotation in radians; at 0 it stands upright.

    Returns:
        Arrays (P, 2) of x, y relative to the centre.
    """
    arm = 0.45
    if kind == 'circle':
        return [_radial([radius] * 72, 0)]
    if kind == 'ring':
        return [_radial([radius] * 72, 0), _radial([radius * 0.4] * 72, 0)[::-1]]
    if kind == 'star':
        return [_radial([radius, radius * 0.55] * 5, angle - math.pi / 2)]
    if kind == 'cross':
        corner = [(1, arm), (arm, arm), (arm, 1)]
        points = []
        for _ in range(4):
            points += corner
            corner = [(-y, x) for x, y in corner]
        # The outer corners of a cross with unit arms are farther away than 1.
        return [_rotate(np.array(points) * radius / math.hypot(1, arm), angle)]
    if kind == 'triangle':
        return [_radial([radius] * 3, angle - math.pi / 2)]
    return [_radial([radius] * 4, angle + math.pi / 4)]


def _radial(radii: list[float], angle: float) -> np.ndarray:
    turns = [angle + 2 * math.pi * i / len(radii) for i in range(len(radii))]
    return np.array([(r * math.cos(t), r * math.sin(t)) for r, t in zip(radii, turns, strict=True)])


def _rotate(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _tilt(dice: Dice) -> float:
    return dice.uniform(-MAX_TILT, MAX_TILT)


def any_ink(dice: Dice) -> np.ndarray:
    return rgb(dice.choice(_INKS)) * dice.uniform(0.85, 1.05)


def rgb(code: str) -> np.ndarray:
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float64)


def _light(dice: Dice, height: int, width: int, scale: int) -> np.ndarray:
    """Brightness over a shape, (height, width): plain, fading from one side to the other, or striped."""
    style, angle = dice.integer(0, 2), dice.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[:height, :width]
    along = columns * math.cos(angle) + rows * math.sin(angle)
    if style == 0 or not along.size:
        return np.ones((height, width))
    if style == 1:
        return 0.75 + 0.4 * (along - along.min()) / max(np.ptp(along), 1)
    return np.where(along / (scale * dice.uniform(0.02, 0.05)) % 1 < 0.5, 0.8, 1.08)


def ground(dice: Dice, height: int, width: int) -> np.ndarray:
    """A textured background (height, width, 3): two colours mixed by cloudy noise, sometimes with stripes or tiles."""
    mix = np.zeros((height, width))
    for cells, weight in ((3, 0.55), (9, 0.25), (height // 4, 0.2)):
        mix += weight * _noise(dice, cells, height, width)
    first, second = rgb(dice.choice(_GROUNDS)), rgb(dice.choice(_GROUNDS))
    image = first + (second - first) * mix[..., None]
    rows, columns = np.mgrid[:height, :width]
    angle, period = dice.uniform(0, math.pi), height * dice.uniform(0.04, 0.12)
    along = (columns * math.cos(angle) + rows * math.sin(angle)) / period % 1 < 0.5
    across = (rows * math.cos(angle) - columns * math.sin(angle)) / period % 1 < 0.5
    pattern = dice.choice((np.zeros_like(along), along, along ^ across))
    image = image * np.where(pattern, dice.uniform(0.82, 0.92), 1.0)[..., None]
    image *= 0.94 + 0.12 * dice.rng.random((height, width, 1))
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def _noise(dice: Dice, cells: int, height: int, width: int) -> np.ndarray:
    """Smooth noise from 0 to 1: random values on a grid of `cells` by `cells`, interpolated to (height, width)."""
    grid = dice.rng.random((cells + 1, cells + 1))

    def weights(length: int) -> tuple[np.ndarray, np.ndarray]:
        position = np.arange(length) * (cells / length)
        return position.astype(int), position - position.astype(int)

    (row, row_part), (column, column_part) = weights(height), weights(width)
    rows = grid[row] * (1 - row_part)[:, None] + grid[row + 1] * row_part[:, None]
    return rows[:, column] * (1 - column_part) + rows[:, column + 1] * column_part
