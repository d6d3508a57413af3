"""The tables of "Vision Xformers" (arXiv 2107.02239), counted again.

Each row is a config under ``configs/classification/vix/``, whose ``paper`` holds the row as printed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from xvit_det.analysis.counts import count_parameters
from xvit_det.analysis.models import model_shapes
from xvit_det.config.load import read_config
from xvit_det.hub import list_models

DATASETS = {'cifar10': 'CIFAR-10', 'tinyimagenet': 'Tiny ImageNet'}  # how configs' names end
COLUMNS = ('model', 'config', 'printed', 'counted alike', 'verdict', 'all', 'paper top-1', 'paper top-5')
TEXT_COLUMNS = ('model', 'config', 'verdict')


@dataclass(frozen=True)
class Row:
    """A model of the tables.

    Args:
        config: Name of its config.
        paper: What the config's ``paper`` says; ``parameters`` is missing where the paper prints none (Table 6), and
            ``corrected_parameters`` is there where it misprints them.
        counted: Our parameters in the paper's convention, see :func:`xvit_det.count_parameters`.
        total: All our parameters.
    """

    config: str
    paper: dict[str, Any]
    counted: int
    total: int

    @property
    def differs(self) -> bool:
        """Whether our count is another than the paper's figure, a known misprint put right."""
        expected = self.paper.get('corrected_parameters', self.paper.get('parameters', self.counted))
        return self.counted != expected

    @property
    def verdict(self) -> str:
        """How our count compares with the printed figure, in a word."""
        if self.differs:
            return 'DIFFERS'
        return 'misprint' if 'corrected_parameters' in self.paper else 'equal' if 'parameters' in self.paper else '–'

    def cells(self) -> tuple[str, ...]:
        """The text below each of ``COLUMNS``."""
        printed = self.paper.get('parameters')
        return (
            self.paper['model'],
            self.config,
            '–' if printed is None else f'{printed:,}',
            f'{self.counted:,}',
            self.verdict,
            f'{self.total:,}',
            f'{self.paper["top1"]:.2f}',
            f'{self.paper["top5"]:.2f}',
        )


def rows() -> list[Row]:
    """Build and count every model of the tables, on PyTorch's meta device, in the paper's order."""
    return sorted(
        (_row(name) for ending in DATASETS for name in list_models(f'*_{ending}')),
        key=lambda row: (row.paper['table'], row.paper['row']),
    )


def _row(name: str) -> Row:
    cfg = read_config(name)
    model = model_shapes(cfg)
    return Row(name, cfg.paper.to_dict(), count_parameters(model, 'paper'), count_parameters(model))


def by_table(table_rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Each table's title and rows."""
    tables = [list(group) for _, group in groupby(table_rows, key=lambda row: row.paper['table'])]
    return [(f'Table {t[0].paper["table"]}, {DATASETS[t[0].config.rsplit("_", 1)[-1]]}', t) for t in tables]


def to_markdown(table_rows: Sequence[Row]) -> str:
    """The tables in Markdown."""
    head = '| ' + ' | '.join(COLUMNS) + ' |\n|' + '|'.join('-' if c in TEXT_COLUMNS else '-:' for c in COLUMNS) + '|\n'
    return '\n'.join(
        f'**{title}**\n\n{head}' + ''.join('| ' + ' | '.join(row.cells()) + ' |\n' for row in group)
        for title, group in by_table(table_rows)
    )
