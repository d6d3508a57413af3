"""Test results as a table, with the paper's figures beside them where the config names them in ``paper``."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

from rich.table import Table

from xvit_det.screen import screen

COCO_COLUMNS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'APs': 'mAP_s', 'APm': 'mAP_m', 'APl': 'mAP_l'}
COCO_ROWS = {'bbox': 'box', 'segm': 'mask'}


def print_results(metrics: Mapping[str, float], paper: Mapping[str, Any] | None = None) -> None:
    """Print an evaluation's metrics.

    Args:
        metrics: What mmengine's evaluators return: ``'coco/bbox_mAP'`` in 0 to 1, ``'accuracy/top1'`` and ``'mIoU'`` in
            percent.
        paper: The config's ``paper``: figures in percent under ``bbox_mAP``, ``segm_mAP``, ``top1``, ``top5`` or
            ``mIoU``, and where they are from under ``source``.
    """
    if not metrics:  # what mmdet returns then, instead of zeros
        print('The model found nothing in any image: no figures.')
        return
    paper = dict(paper or {})
    source = paper.pop('source', 'paper')
    values = {name.rsplit('/')[-1]: value for name, value in metrics.items()}
    coco = [kind for kind in COCO_ROWS if f'{kind}_mAP' in values]
    table = _coco_table(values, coco, paper) if coco else _plain_table(values, paper)
    if paper:
        table.caption = f'paper: {source}'
    screen(100).print(table)


def _coco_table(values: Mapping[str, float], kinds: list[str], paper: Mapping[str, Any]) -> Table:
    table = Table('COCO, %', *COCO_COLUMNS, *(['paper AP'] if paper else []))
    for kind in kinds:
        figures = [values.get(f'{kind}_{name}') for name in COCO_COLUMNS.values()]
        cells = [_cell(None if v is None or v < 0 else 100 * v) for v in figures]
        table.add_row(COCO_ROWS[kind], *cells, *([_cell(paper.get(f'{kind}_mAP'))] if paper else []))
    return table


def _plain_table(values: Mapping[str, float], paper: Mapping[str, Any]) -> Table:
    table = Table('metric', 'value', *(['paper'] if paper else []))
    for name, value in values.items():
        table.add_row(name, _cell(value), *([_cell(paper.get(name))] if paper else []))
    return table


def _cell(value: Any) -> str:
    """One decimal for numbers; a dash where there is none (COCO's -1: no object of that size in the data)."""
    return '–' if value is None else f'{value:.1f}' if isinstance(value, Real) else str(value)
