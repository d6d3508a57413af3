"""``python -m xvit_det.analysis``: the tables of models, counted."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from rich.console import Console
from rich.table import Table
from torch import nn

from xvit_det.analysis.counts import count_macs, count_parameters
from xvit_det.backbones import XViT
from xvit_det.hub import find_config, list_models

CLASSES = 1000


def xvit_rows() -> list[list[str]]:
    """Name, parameters and MACs of each X-ViT as classifier and as detection backbone, parameters of its Mask R-CNN."""
    table = []
    with torch.device('meta'):
        for name in XViT.arch_zoo:
            classifier = XViT(arch=name, out_type='cls_token')
            head = nn.Linear(classifier.embed_dims, CLASSES)
            backbone = XViT(arch=name)
            detector = _detector(f'mask_rcnn_xvit_{name[0]}_3x')
            table.append(
                [
                    f'X-ViT-{name[0].upper()}',
                    f'{count_parameters(classifier) + count_parameters(head):,}',
                    *(f'{(count_macs(classifier, size) + head.weight.numel()) / 1e9:.2f}' for size in (224, 384)),
                    f'{count_parameters(backbone):,}',
                    f'{count_macs(backbone, (800, 1344)) / 1e9:.1f}',
                    f'{count_parameters(detector):,}',
                ]
            )
    return table


def vix_rows() -> list[list[str]]:
    """Config, parameters of the backbone and of the whole of each Mask R-CNN with ViX or a relative."""
    names = [name for name in list_models('mask_rcnn_*_3x') if 'xvit' not in name]
    with torch.device('meta'):
        detectors = [_detector(name) for name in names]
    return [
        [name, type(d.backbone).__name__, f'{count_parameters(d.backbone):,}', f'{count_parameters(d):,}']
        for name, d in zip(names, detectors, strict=True)
    ]


def _detector(config: str) -> nn.Module:
    return MODELS.build({**Config.fromfile(find_config(config)).model, '_scope_': 'mmdet'})


def _print(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify='left' if column in ('model', 'config', 'backbone') else 'right')
    for row in rows:
        table.add_row(*row)
    Console(width=None if Console().is_terminal else 120).print(table)


def main() -> None:
    """Print both tables."""
    columns = ['model', f'parameters, {CLASSES} classes', 'GMAC, 224', 'GMAC, 384']
    columns += ['detection backbone', 'GMAC, 800x1344', 'Mask R-CNN, 80 classes']
    _print('X-ViT, counted: parameters, and multiply-accumulates (GMAC) of one image', columns, xvit_rows())
    columns = ['config', 'backbone', 'its parameters', 'Mask R-CNN, 80 classes']
    _print('ViX and relatives, counted: parameters', columns, vix_rows())


if __name__ == '__main__':
    main()
