"""The metafiles of the model index (what `mim` and the model zoo read), made from the configs."""

from collections.abc import Iterator
from typing import Any

import yaml
from mmengine.config import Config

from xvit_det.analysis.models import model_row
from xvit_det.config.load import read_config
from xvit_det.hub import config_dir, find_config, list_models

HEADER = """\
# Written by `python tools/generate.py` from the configs; do not edit. Parameters and FLOPs (multiply-accumulates) are
# counted on this code. Metrics marked (paper) are the papers' own figures, those marked with authors (XCiT's, DeiT's)
# belong to the weights that these published; none was measured here. No weights of X-ViT and ViX are published.
"""
XVIT = dict(
    Title='X-ViT: High Performance Linear Vision Transformer without Softmax', URL='https://arxiv.org/abs/2109.14382'
)
VIX = dict(
    Title='Vision Xformers: Efficient Attention for Image Classification', URL='https://arxiv.org/abs/2107.02239'
)
XCIT = dict(Title='XCiT: Cross-Covariance Image Transformers', URL='https://arxiv.org/abs/2106.09681')
XCA = ['XCiT', 'Cross-Covariance Attention']
VIX_FAMILIES = ['ViX', 'LeViX', 'CCX', 'CvX', 'PiX']
# (scope or 'selfsup', family of the backbone): metafile below configs/, collection, architecture, paper
COLLECTIONS = {
    ('mmdet', 'XViT'): ('metafile.yml', 'X-ViT detection', ['X-ViT', 'XNorm Attention', 'FPN'], XVIT),
    ('mmdet', 'XCiT'): ('metafile.yml', 'XCiT detection', [*XCA, 'FPN'], XCIT),
    ('mmdet', 'ViX'): ('metafile.yml', 'ViX detection', [*VIX_FAMILIES, 'FPN'], VIX),
    ('mmseg', 'XViT'): ('segmentation/metafile.yml', 'X-ViT segmentation', ['X-ViT', 'XNorm Attention'], XVIT),
    ('mmseg', 'XCiT'): ('segmentation/metafile.yml', 'XCiT segmentation', XCA, XCIT),
    ('mmseg', 'ViX'): ('segmentation/metafile.yml', 'ViX segmentation', VIX_FAMILIES, VIX),
    ('mmpretrain', 'XViT'): ('classification/metafile.yml', 'X-ViT classification', ['X-ViT', 'XNorm Attention'], XVIT),
    ('mmpretrain', 'XCiT'): ('classification/metafile.yml', 'XCiT classification', XCA, XCIT),
    ('mmpretrain', 'ViX'): ('classification/vix/metafile.yml', 'ViX classification', VIX_FAMILIES, VIX),
    ('selfsup', 'XViT'): ('selfsup/metafile.yml', 'X-ViT self-supervision', ['X-ViT', 'XNorm Attention'], XVIT),
}
DRAWN_DATA = ('mask_rcnn_xvit_context', 'mask_rcnn_xvit_shapes', 'semantic_fpn_xvit_shapes')
NOT_LISTED = (
    *DRAWN_DATA,
    'mask_rcnn_xvit_s_custom',
    'semantic_fpn_xvit_s_custom',
)  # the last two are for your own data
# Its total depends on the OpenMMLab family: OneDL and OpenMMLab build different DINOs.
WITHOUT_TOTAL = ('dino_xvit_s_12e',)
DATASETS = {
    'CIFAR10': 'CIFAR-10',
    'TinyImageNet': 'Tiny ImageNet',
    'ImageNet': 'ImageNet-1k',
    'CustomDataset': 'ImageNet-1k',  # without its labels
    'CocoDataset': 'COCO',
    'ADE20KDataset': 'ADE20K',
    'CityscapesDataset': 'Cityscapes',
}
# Key of a figure: task and metric.
METRICS = {
    'bbox_mAP': ('Object Detection', 'box AP'),
    'segm_mAP': ('Instance Segmentation', 'mask AP'),
    'mIoU': ('Semantic Segmentation', 'mIoU'),
    'top1': ('Image Classification', 'Top 1 Accuracy'),
    'top5': ('Image Classification', 'Top 5 Accuracy'),
}


def metafiles() -> dict[str, str]:
    """The text of every metafile, by its path below the folder of the configs."""
    files: dict[str, dict[str, list]] = {}
    for path, name, architecture, paper in COLLECTIONS.values():
        file = files.setdefault(path, dict(Collections=[], Models=[]))
        # Copies, because YAML writes an anchor for an object that it meets twice.
        file['Collections'].append(dict(Name=name, Metadata=dict(Architecture=[*architecture]), Paper={**paper}))
    for name in list_models():
        if name not in NOT_LISTED:
            cfg = read_config(name)
            kind = cfg.default_scope if 'test_cfg' in cfg else 'selfsup'
            path, collection, *_ = COLLECTIONS[kind, _family(cfg.model.backbone)]
            files[path]['Models'].append(_entry(name, cfg, collection))
    return {path: HEADER + yaml.safe_dump(file, sort_keys=False, width=120) for path, file in files.items()}


def _family(backbone: dict[str, Any]) -> str:
    if backbone['type'] != 'XViT':
        return 'ViX'
    return 'XCiT' if backbone.get('mixer') == 'xca' else 'XViT'


def _entry(name: str, cfg: Config, collection: str) -> dict[str, Any]:
    dataset = DATASETS[cfg.get('test_dataloader', cfg.train_dataloader).dataset.type]
    duration = (
        {'Epochs': cfg.train_cfg.max_epochs}
        if 'max_epochs' in cfg.train_cfg
        else {'Iterations': cfg.train_cfg.max_iters}
    )
    metadata: dict[str, Any] = {'Training Data': dataset, **duration}
    if name not in WITHOUT_TOTAL:
        row = model_row(name)
        metadata['Parameters'] = row.parameters
        if row.model_macs is not None:
            metadata['FLOPs'] = row.model_macs
    config = find_config(name).relative_to(config_dir().parent)
    entry = {'Name': name, 'In Collection': collection, 'Config': str(config), 'Metadata': metadata}
    published = cfg.get('published') or {}
    figures = (('paper', cfg.get('paper') or {}), (published.get('source', '').split(',')[0], published))
    results = [result for whose, values in figures for result in _results(values, whose, dataset)]
    return entry | {'Results': results} if results else entry


def _results(figures: dict[str, Any], whose: str, dataset: str) -> Iterator[dict[str, Any]]:
    tasks: dict[str, dict[str, float]] = {}
    for key, (task, metric) in METRICS.items():
        if key in figures:
            tasks.setdefault(task, {})[f'{metric} ({whose})'] = figures[key]
    for task, metrics in tasks.items():
        yield dict(Task=task, Dataset=dataset, Metrics=metrics)
