"""What the commands show: a progress bar while they measure, then a table."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

LEFT_ALIGNED = ('model', 'size', 'dtype', 'mode', 'part', 'config', 'quantity')


class Bar:
    """A progress bar over ``total`` steps; use it in a ``with`` statement."""

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task('', total=total)

    def __enter__(self) -> 'Bar':
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def tick(self) -> None:
        self._progress.advance(self._task)

    def advance_to(self, steps: int) -> None:
        """Count what was left out as done."""
        self._progress.update(self._task, completed=steps)

    def describe(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def skipped(self, reason: object) -> None:
        """Say above the bar why a case is left out."""
        self._progress.console.print(f'skipped: {reason}', soft_wrap=True, markup=False, highlight=False)


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows of text, numbers as they come (``None`` as a dash)."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify='left' if column in LEFT_ALIGNED else 'right')
    for row in rows:
        table.add_row(*('–' if value is None else str(value) for value in row))
    Console(width=None if Console().is_terminal else 140).print(table)
