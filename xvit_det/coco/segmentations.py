"""What is wrong with a segmentation: polygons, or a run-length encoding (RLE) as a list or a text.

pycocotools is no judge: it writes beyond its memory when a text is damaged.
"""

import math
from typing import Any

from xvit_det.coco.problems import FAR


def segmentation_fault(segmentation: Any, height: float, width: float) -> str | None:
    """The kind of problem of a segmentation that mmdet loads as a mask, a key of ``problems.KINDS``, or ``None``.

    Args:
        segmentation: The value in the file.
        height: The image's height in pixels.
        width: Its width.
    """
    if not segmentation:
        return 'mask_absent'
    if isinstance(segmentation, dict):
        return None if _is_rle(segmentation, height, width) else 'mask_rle'
    if not isinstance(segmentation, list):
        return 'mask_form'
    reach = FAR * (height + width)  # pycocotools rasterizes what is outside, too
    if not all(_is_polygon(polygon, reach) for polygon in segmentation):
        return 'mask_form'
    whole = sum(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation)
    if whole == len(segmentation):
        return None
    return 'mask_part' if whole else 'mask_points'


def _is_polygon(polygon: Any, reach: float) -> bool:
    """Whether it is a list of finite numbers not too far from the image."""
    if not isinstance(polygon, list):
        return False
    try:
        # The root of the sum of squares, at C's speed: not below that of any number, NaN or infinite if one is.
        return math.hypot(*polygon) < reach or all(-reach < number < reach for number in polygon)
    except (TypeError, OverflowError):
        return False


def _is_rle(rle: dict, height: float, width: float) -> bool:
    counts = rle.get('counts')
    if rle.get('size') != [height, width]:
        return False
    if isinstance(counts, str):
        counts = decode_counts(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        return False
    return sum(counts) == height * width


def decode_counts(text: str) -> list[int] | None:
    """The runs that COCO's compressed text stands for, or ``None`` if it is damaged.

    A run is a little-endian number with a sign, in characters of 5 bits from ``'0'`` on, where a sixth bit says that
    another follows. From the fourth run on it is the difference from the run before the last.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord('0')
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts if shift == 0 else None
