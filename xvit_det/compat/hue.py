"""Colour jitter with numpy 2, for mmcv 2.1: it turns a negative shift of hue into a byte, which numpy 2 refuses."""

import functools
import sys
from typing import Any


class WrappedHue(float):
    """A shift of hue whose product with 255 wraps around to a byte."""

    def __mul__(self, other: float) -> int:
        return int(float(self) * other) % 256


def wrap_hue() -> None:
    """Let ``mmcv.adjust_hue`` take negative shifts. mmcv is imported."""
    mmcv: Any = sys.modules['mmcv']
    adjust_hue = mmcv.adjust_hue

    @functools.wraps(adjust_hue)
    def wrapped(img: Any, hue_factor: float, backend: str | None = None) -> Any:
        return adjust_hue(img, WrappedHue(hue_factor), backend)

    mmcv.adjust_hue = mmcv.image.adjust_hue = wrapped
