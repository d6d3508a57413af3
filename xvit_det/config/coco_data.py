"""The annotation files that a config trains and evaluates with, and what each of them needs to have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict

from xvit_det.coco.check import check_entries
from xvit_det.coco.files import check_listed, check_opened
from xvit_det.coco.problems import Problem, worst
from xvit_det.coco.reading import no_collection, read_annotations
from xvit_det.config.data_paths import dataset_configs, metric_configs, resolve
from xvit_det.config.options import find_class
from xvit_det.errors import InputError
from xvit_det.signatures import type_name

SAMPLES = 2000  # images whose header is read before training: 0.1 s on a local disk


@dataclass(frozen=True)
class CocoFile:
    """An annotation file and how it is used.

    Args:
        path: The file.
        folder: Its images; ``None``: they are not on a disk here.
        masks: Whether masks are loaded or evaluated.
        evaluated: Whether pycocotools evaluates with it.
        needed: Whether there have to be objects.
        min_size: Smaller images, in pixels, are left out.
    """

    path: str
    folder: str | None
    masks: bool = True
    evaluated: bool = True
    needed: bool = True
    min_size: int = 0

    @property
    def needs(self) -> dict[str, bool]:
        """The arguments of the same names of :func:`xvit_det.coco.check.check_entries`."""
        return dict(masks=self.masks, evaluated=self.evaluated, needed=self.needed)


def is_coco(dataset: ConfigDict, cls: Any) -> bool:
    """Whether a dataset reads an annotation file in COCO's format from a disk."""
    return bool(dataset.get('ann_file') and getattr(cls, 'COCOAPI', None)) and '://' not in resolve(
        dataset, dataset['ann_file']
    )


def coco_files(cfg: Config, splits: Sequence[str]) -> Iterator[tuple[str, CocoFile]]:
    """The annotation files of a config, each with its split."""
    for split in splits:
        for dataset in dataset_configs(cfg, split):
            if is_coco(dataset, find_class(dataset.get('type'), cfg.get('default_scope'))):
                yield split, coco_file(cfg, split, dataset)


def coco_file(cfg: Config, split: str, dataset: ConfigDict) -> CocoFile:
    """The annotation file of a dataset for which :func:`is_coco` is true."""
    prefix = dataset.get('data_prefix') or {}
    folder = resolve(dataset, prefix.get('img', '') if isinstance(prefix, dict) else prefix)
    steps = {type_name(step): step for step in dataset.get('pipeline') or ()}
    loads = steps.get('LoadAnnotations')
    # Datasets that make paths of their own, and images that are not turned: what is loaded is not known here.
    is_known = _finds_files_as_coco(find_class(dataset.get('type'), cfg.get('default_scope')))
    is_known &= 'ignore_orientation' not in steps.get('LoadImageFromFile', {}).get('color_type', '')
    filters = {} if split != 'train' else dataset.get('filter_cfg') or {}
    metrics = [m for m in metric_configs(cfg, split) if not m.get('format_only')] if split != 'train' else []
    is_only = len([*dataset_configs(cfg, split)]) == 1  # another one of images without objects is a background
    kinds = {kind for metric in metrics for kind in np.atleast_1d(metric.get('metric', 'bbox')).tolist()}
    return CocoFile(
        resolve(dataset, dataset['ann_file']),
        None if dataset.get('backend_args') or '://' in folder or not is_known else folder,
        masks=bool(loads and loads.get('with_mask')) or 'segm' in kinds,
        evaluated=any(str(m['type']).endswith('CocoMetric') and m.get('ann_file') for m in metrics),
        needed=bool(metrics or filters.get('filter_empty_gt') or (split == 'train' and loads and is_only)),
        min_size=filters.get('min_size', 0),
    )


def _finds_files_as_coco(cls: Any) -> bool:
    from mmdet.datasets import CocoDataset

    methods = ('load_data_list', 'parse_data_info')
    return not issubclass(cls, CocoDataset) or all(getattr(cls, m) is getattr(CocoDataset, m) for m in methods)


def check_coco(file: CocoFile, images: bool = True) -> dict[str, Any]:
    """The cheap check before training: annotations, the presence of images, the sizes of some.

    Args:
        file: And how it is used.
        images: Whether to look at images.

    Returns:
        The content of the file.

    Raises:
        InputError: Training or evaluation would break or be silently wrong.
    """
    with no_collection():
        content = read_annotations(file.path)
        problem = worst(check_entries(content, **file.needs))
        if images and not problem:
            problem = worst(_check_some_images(content, file.folder))
    if problem:
        where = f'{file.path} {file.folder}' if file.folder else f'{file.path} --no-images'
        where += '' if file.masks else ' --no-masks'
        raise InputError(
            f'{problem.sentence(file.path, content)}; `xvit-det check-data {where}` lists everything that is wrong, '
            'and with --fix it writes a file without that'
        )
    if all(min(image['width'], image['height']) < file.min_size for image in content['images']):
        raise InputError(
            f'{file.path} has no image of at least {file.min_size} pixels in width and height, and filter_cfg leaves '
            'out smaller ones; lower its min_size'
        )
    return content


def _check_some_images(content: dict[str, Any], folder: str | None) -> list[Problem]:
    if folder is None:
        return []
    spread = np.linspace(0, len(content['images']) - 1, SAMPLES).astype(int)
    return check_listed(content, folder) or check_opened(content, folder, spread.tolist(), whole=False)
