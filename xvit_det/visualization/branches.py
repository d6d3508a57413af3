"""What each branch of a model is worth, and its share of the residual stream, as heat maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure


class Grid(NamedTuple):
    """Figures by row and column.

    Args:
        title: What they are.
        values: Numbers by row and column; a column may be missing in a row.
        texts: The same as they are printed.
        is_change: Whether they are changes of a score, which are red where negative; else they are positive.
    """

    title: str
    values: Mapping[str, Mapping[str, float]]
    texts: Mapping[str, Mapping[str, str]]
    is_change: bool


def draw_branches(path: str | Path, grids: Sequence[Grid], columns: Sequence[str], title: str) -> None:
    """Save heat maps side by side.

    Args:
        path: The PNG to write.
        grids: Those of the first one's rows. A row ``'all'`` is set apart.
        columns: Names of the columns of all grids.
        title: Printed above.
    """
    rows = list(grids[0].values)
    size = (1.2 + len(grids) * (0.8 + 1.25 * len(columns)), 1.4 + 0.34 * len(rows))
    figure = Figure(figsize=size, layout='constrained')
    panels = figure.subplots(1, len(grids), squeeze=False, sharey=True)[0]
    for axes, grid in zip(panels, grids, strict=True):
        _heat_map(axes, grid, rows, columns)
    figure.suptitle(title, fontsize=10, color='#555555')
    figure.savefig(path, dpi=110)


def _heat_map(axes: Axes, grid: Grid, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw the figures over their colours; what a row does not have stays white."""
    values = np.array([[grid.values.get(row, {}).get(column, np.nan) for column in columns] for row in rows])
    # Changes of one block and of all differ by powers of ten. Fixed limits: the colours of two pictures compare.
    norm = SymLogNorm(1, vmin=-50, vmax=50) if grid.is_change else Normalize(0, np.nanmax(values))
    image = axes.imshow(values, cmap='RdBu' if grid.is_change else 'Greens', norm=norm, aspect='auto')
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            is_dark = np.dot(image.to_rgba(value)[:3], (0.3, 0.6, 0.1)) < 0.5
            text, colour = grid.texts[rows[i]][columns[j]], 'white' if is_dark else 'black'
            axes.text(j, i, text, ha='center', va='center', fontsize=9, color=colour)
    if 'all' in rows:
        axes.axhline(rows.index('all') - 0.5, color='white', linewidth=5)
    axes.set_title(grid.title, fontsize=10)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
