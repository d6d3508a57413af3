"""Trainings as figures: loss and scores, and the errors of many parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

LOSS_COLOUR, SCORE_COLOURS = '#8a94a6', ('#2f6fde', '#e0662f')


def draw_curve(
    path: str | Path,
    losses: Sequence[tuple[int, float]],
    scores: Mapping[str, Sequence[tuple[int, float]]],
    title: str,
    measure: str,
) -> None:
    """Save the loss (left axis) and one or two scores (right axis) over the iterations.

    Args:
        path: The PNG to write.
        losses: (iteration, loss) of every iteration.
        scores: By name, (iteration, score from 0 to 1) of every evaluation.
        title: Printed above.
        measure: Printed at the right axis.
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
    for (name, points), colour in zip(scores.items(), SCORE_COLOURS, strict=False):
        label = f'{name} {points[-1][1]:.3f}'
        right.plot(*zip(*points, strict=True), 'o-', color=colour, linewidth=2, markersize=5, label=label)
    right.set(ylabel=measure, ylim=(0, 1))
    right.grid(alpha=0.25)
    lines = left.get_lines()[1:] + right.get_lines()
    figure.legend(handles=lines, loc='outside lower center', ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def draw_errors(path: str | Path, errors: Mapping[str, Sequence[tuple[int, float]]], title: str) -> None:
    """Save errors, which fall by orders of magnitude, over the steps, from the first block (dark) to the last (light).

    Args:
        path: The PNG to write.
        errors: By name, (step, error) of every step.
        title: Printed above.
    """
    figure = Figure(figsize=(7.2, 4.2), layout='constrained')
    axes = figure.subplots()
    for (name, points), colour in zip(
        errors.items(), colormaps['viridis'](np.linspace(0, 0.9, len(errors))), strict=True
    ):
        steps, values = np.array(points).T
        axes.semilogy(steps, values, '.-' if len(points) < 10 else '-', color=colour, linewidth=1.2, label=name)
    axes.set(xlabel='step', ylabel='squared error / variance', title=title)
    axes.grid(alpha=0.25)
    figure.legend(loc='outside right upper', frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
