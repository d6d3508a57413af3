"""Annotations and predictions drawn side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@dataclass
class Instances:
    """The annotated or predicted objects of one image.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels.
        masks: (N, H, W) of bool.
        labels: (N,) class numbers.
        scores: (N,) from 0 to 1, or None for annotations.
        crowds: (N,) of bool: regions of many objects that need not be detected one by one. None for predictions.
    """

    boxes: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    crowds: np.ndarray | None = None


def draw_predictions(
    path: str | Path,
    images: Sequence[np.ndarray],
    truths: Sequence[Instances],
    predictions: Sequence[Instances],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    columns: int = 2,
) -> None:
    """Save a grid of image pairs: annotations on the left, predictions on the right.

    Args:
        path: The PNG to write.
        images: RGB, (H, W, 3) uint8, one for each pair.
        truths: The annotations of each image.
        predictions: The predictions for each image.
        classes: Class names, by class number.
        palette: RGB colours from 0 to 255, by class number.
        columns: Pairs in a row.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(5.2 * columns, 2.75 * rows), layout='constrained')
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    colours = np.array(palette) / 255
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        for offset, title, instances in ((0, 'annotated', truths[i]), (1, 'predicted', predictions[i])):
            axes = grid[row, 2 * column + offset]
            axes.set_title(title, fontsize=9, loc='left', pad=3)
            _draw_instances(axes, image, instances, classes, colours)
    figure.savefig(path, dpi=110)


def _draw_instances(
    axes: Axes, image: np.ndarray, instances: Instances, classes: Sequence[str], colours: np.ndarray
) -> None:
    height, width = image.shape[:2]
    axes.imshow(image, extent=(0, width, height, 0))
    for i, (x1, y1, x2, y2) in enumerate(instances.boxes):
        colour, mask = colours[instances.labels[i]], instances.masks[i]
        # (H, W) -> (H, W, 4): the class colour, see-through outside the mask
        veil = np.concatenate([np.broadcast_to(colour, (height, width, 3)), 0.55 * mask[..., None]], axis=2)
        axes.imshow(veil, extent=(0, width, height, 0), interpolation='nearest')
        axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, linewidth=1.2)
        text = classes[instances.labels[i]]
        if instances.scores is not None:
            text += f' {instances.scores[i]:.2f}'
        if instances.crowds is not None and instances.crowds[i]:
            text += ' crowd'
        box = dict(facecolor=colour, edgecolor='none', pad=0.8, alpha=0.9)
        axes.text(x1, max(y1, 6), text, fontsize=5.5, color='white', va='bottom', bbox=box, clip_on=True)
    axes.set(xlim=(0, width), ylim=(height, 0))
