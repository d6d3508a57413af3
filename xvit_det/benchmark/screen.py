"""Terminal output of the measurements: progress bars and tables."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

from xvit_det.screen import screen

Item = TypeVar('Item')
STDERR = Console(stderr=True)


def progress(items: Sequence[Item], label: str) -> Iterable[Item]:
    """The items, with a progress bar on stderr; no bar if the label is empty."""
    return track(items, label, console=STDERR, transient=True, disable=not label)


def show_skipped(reason: object) -> None:
    """Say why a case is left out, above the progress bar."""
    STDERR.print(f'skipped: {reason}', soft_wrap=True, markup=False, highlight=False)


def show_table(title: str, rows: Sequence[dict]) -> None:
    """Print a record's rows. Columns are the first row's keys; numbers are shown with four significant digits."""
    if not rows:
        return
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name.replace('_', ' '), justify='left' if isinstance(value, str) else 'right')
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    screen(140).print(table)


def _cell(value: object) -> str:
    if value is None:
        return '–'
    if isinstance(value, float):
        return f'{value:.4g}' if abs(value) < 1000 else f'{value:.0f}'
    return str(value)
