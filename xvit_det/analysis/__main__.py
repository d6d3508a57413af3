"""``python -m xvit_det.analysis``: the table of models, counted."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from rich.console import Console
from rich.table import Table
from torch import nn

from xvit_det.analysis.counts import count_macs, count_parameters
from xvit_det.backbones import XViT
from xvit_det.hub import find_config

CLASSES = 1000


def rows() -> list[list[str]]:
    """Name, parameters and MACs of each X-ViT as classifier and as detection backbone, parameters of its Mask R-CNN."""
    table = []
    with torch.device('meta'):
        for name in XViT.arch_zoo:
            classifier = XViT(arch=name, out_type='cls_token')
            head = nn.Linear(classifier.embed_dims, CLASSES)
            backbone = XViT(arch=name)
            detector = MODELS.build(
                {**Config.fromfile(find_config(f'mask_rcnn_xvit_{name[0]}_3x')).model, '_scope_': 'mmdet'}
            )
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


def main() -> None:
    table = Table(title='Counted: parameters, and multiply-accumulates (GMAC) of one image')
    for column in (
        'model',
        f'parameters, {CLASSES} classes',
        'GMAC, 224',
        'GMAC, 384',
        'detection backbone',
        'GMAC, 800x1344',
        'Mask R-CNN, 80 classes',
    ):
        table.add_column(column, justify='left' if column == 'model' else 'right')
    for row in rows():
        table.add_row(*row)
    Console().print(table)


if __name__ == '__main__':
    main()
