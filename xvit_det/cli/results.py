"""Test results as a table, with the figures beside them that the config names in ``paper`` or ``published``."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

from rich.table import Table

from xvit_det.screen import screen

COCO_COLUMNS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'APs': 'mAP_s', 'APm': 'mAP_m', 'APl': 'mAP_l'}
COCO_ROWS = {'bbox': 'box', 'segm': 'mask'}


def print_results(metrics: Mapping[str, float], figures: Mapping[str, Any] | None = None, whose: str = 'paper') -> None:
    """Print an evaluation's metrics.

    Args:
        metrics: What mmengine's evaluators return: ``'coco/bbox_mAP'`` in 0 to 1, ``'accuracy/top1'`` and ``'mIoU'`` in
            percent.
        figures: The config's ``paper`` or ``published``: percent under ``bbox_mAP``, ``segm_mAP``, ``top1``, ``top5``
            or ``mIoU``, and where they are from under ``source``.
        whose: Title of their column.
    """
    if not metrics:  # what mmdet returns then, instead of zeros
        print('The model found nothing in any image: no figures.')
        return
    figures = dict(figures or {})
    source = figures.pop('source', whose)
    values = {name.rsplit('/')[-1]: value for name, value in metrics.items()}
    coco = [kind for kind in COCO_ROWS if f'{kind}_mAP' in values]
    table = _coco_table(values, coco, figures, whose) if coco else _plain_table(values, figures, whose)
    if figures:
        table.caption = f'{whose}: {source}'
    screen(100).print(table)


def _coco_table(values: Mapping[str, float], kinds: list[str], figures: Mapping[str, Any], whose: str) -> Table:
    table = Table('COCO, %', *COCO_COLUMNS, *([f'{whose} AP'] if figures else []))
    for kind in kinds:
        measured = [values.get(f'{kind}_{name}') for name in COCO_COLUMNS.values()]
        cells = [_cell(None if v is None or v < 0 else 100 * v) for v in measured]
        table.add_row(COCO_ROWS[kind], *cells, *([_cell(figures.get(f'{kind}_mAP'))] if figures else []))
    return table


def _plain_table(values: Mapping[str, float], figures: Mapping[str, Any], whose: str) -> Table:
    table = Table('metric', 'value', *([whose] if figures else []))
    for name, value in values.items():
        table.add_row(name, _cell(value), *([_cell(figures.get(name))] if figures else []))
    return table


def _cell(value: Any) -> str:
    """One decimal for numbers; a dash where there is none (COCO's -1: no object of that size in the data)."""
    return '–' if value is None else f'{value:.1f}' if isinstance(value, Real) else str(value)
