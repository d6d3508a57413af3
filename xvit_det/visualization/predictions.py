"""Images, annotations and predictions drawn side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

Colours = Sequence[tuple[int, int, int]]
"""RGB from 0 to 255, by class number."""


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


def draw_grid(
    path: str | Path,
    scenes: Sequence[Mapping[str, Callable[[Axes], None]]],
    legend: Mapping[str, tuple[int, int, int]] | None = None,
    columns: int = 2,
    aspect: float = 1.0,
) -> None:
    """Save a grid of scenes, each of which is several panels side by side.

    Args:
        path: The PNG to write.
        scenes: For each scene its panels: the title and what draws it. All have equally many.
        legend: Names and RGB colours from 0 to 255 that are explained below the grid.
        columns: Scenes in a row.
        aspect: Width of an image divided by its height.
    """
    rows, panels = -(-len(scenes) // columns), len(scenes[0])
    width = 2.6 * aspect**0.3  # inches of a panel: wide images get somewhat more, and less height
    figure = Figure(figsize=(width * panels * columns, (width / aspect + 0.15) * rows), layout='constrained')
    grid = figure.subplots(rows, panels * columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, scene in enumerate(scenes):
        row, column = divmod(i, columns)
        for axes, (title, draw) in zip(grid[row, panels * column :], scene.items(), strict=False):
            axes.set_title(title, fontsize=9, loc='left', pad=3)
            draw(axes)
    if legend:
        patches = [Patch(facecolor=(r / 255, g / 255, b / 255), label=name) for name, (r, g, b) in legend.items()]
        figure.legend(handles=patches, loc='outside lower center', ncols=len(legend), frameon=False)
    figure.savefig(path, dpi=110)


def draw_labels(axes: Axes, labels: np.ndarray, palette: Colours) -> None:
    """Draw a label map (H, W) of class numbers in the colours of the classes."""
    axes.imshow(np.array(palette, np.uint8)[labels], interpolation='nearest')  # (H, W) -> (H, W, 3)


def draw_instances(
    axes: Axes, image: np.ndarray, instances: Instances, classes: Sequence[str], palette: Colours
) -> None:
    """Draw boxes, masks and class names over an image (H, W, 3) of RGB in uint8."""
    colours = np.array(palette) / 255
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
