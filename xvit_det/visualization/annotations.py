"""What an annotation file holds, as a figure: objects by class, and their sizes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xvit_det.coco.problems import printable
from xvit_det.coco.statistics import BOUNDS, Statistics

MOST_CLASSES = 25  # rows; the rest become one
COLOUR = '#2f6fde'


def draw_statistics(path: str | Path, files: Mapping[str, Statistics]) -> None:
    """Save a row for each file: objects by class, the most frequent first, and a histogram of the sides of their boxes.

    Args:
        path: The PNG, SVG or PDF to write.
        files: Statistics by title.
    """
    bars = [_bars(statistics) for statistics in files.values()]
    heights = [max(2.4, 0.19 * len(names) + 1) for names, _ in bars]
    figure = Figure(figsize=(10, sum(heights)), layout='constrained')
    rows = figure.subplots(len(bars), 2, squeeze=False, height_ratios=heights)
    for (left, right), (names, counts), (title, statistics) in zip(rows, bars, files.items(), strict=True):
        left.barh(range(len(names)), counts, color=COLOUR)
        left.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
        left.set(xlabel='objects', ylim=(len(names) - 0.5, -0.5))
        left.set_title(printable(title), parse_math=False)
        sides = statistics.sides[statistics.sides >= 1]
        if len(sides):
            right.hist(sides, bins=np.geomspace(1, max(2, sides.max()), 40), color=COLOUR)
        right.set(xscale='log', xlabel='side of the box √(wh), pixels', ylabel='objects')
        for bound in BOUNDS:
            right.axvline(bound**0.5, color='#8a94a6', linewidth=1)
        right.set_title('lines: small, medium, large', fontsize=8, color='#555555')
    figure.savefig(path, dpi=110)


def _bars(statistics: Statistics) -> tuple[list[str], list[int]]:
    ordered = sorted(statistics.classes, key=lambda count: -count.objects)
    shown, rest = ordered[:MOST_CLASSES], ordered[MOST_CLASSES:]
    names, counts = [printable(count.name) for count in shown], [count.objects for count in shown]
    if rest:
        names.append(f'{len(rest)} other classes')
        counts.append(sum(count.objects for count in rest))
    return names, counts
