"""The loss and mAP of a training as a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

LOSS_COLOUR, BOX_COLOUR, MASK_COLOUR = '#8a94a6', '#2f6fde', '#e0662f'


def draw_curve(
    path: str | Path, losses: Sequence[tuple[int, float]], scores: Sequence[tuple[int, float, float]], title: str
) -> None:
    """Save the loss (left axis) and box and mask mAP (right axis) over the iterations.

    Args:
        path: The PNG to write.
        losses: (iteration, loss) of every iteration.
        scores: (iteration, box mAP, mask mAP) of every evaluation, from 0 to 1.
        title: Printed above.
    """
    figure = Figure(figsize=(7.2, 4.2), layout='constrained')
    left = figure.subplots()
    iterations, values = np.array(losses).T
    left.plot(iterations, values, color=LOSS_COLOUR, alpha=0.3, linewidth=0.8)
    window = max(1, len(values) // 40)
    smooth = np.convolve(values, np.ones(window) / window, mode='valid')
    left.plot(iterations[window - 1 :], smooth, color=LOSS_COLOUR, linewidth=2, label='loss, running mean')
    left.set(xlabel='iteration', ylabel='loss', ylim=(0, 1.05 * np.percentile(values, 99)), title=title)
    right = left.twinx()
    steps, *both = zip(*scores, strict=True)
    for name, colour, maps in zip(('box mAP', 'mask mAP'), (BOX_COLOUR, MASK_COLOUR), both, strict=True):
        right.plot(steps, maps, 'o-', color=colour, linewidth=2, markersize=5, label=f'{name} {maps[-1]:.3f}')
    right.set(ylabel='COCO mAP', ylim=(0, 1))
    right.grid(alpha=0.25)
    lines = left.get_lines()[1:] + right.get_lines()
    figure.legend(handles=lines, loc='outside lower center', ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
