"""The annotation files that a config trains and evaluates with, and what each of them needs to have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
from xvit_det.stages import stage

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
        by_url: Whether images are found by their address, as of LVIS v1.
        min_size: Smaller images, in pixels, are left out.
    """

    path: str
    folder: str | None
    masks: bool = True
    evaluated: bool = True
    needed: bool = True
    by_url: bool = False
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
    finder = _finds_files_as(find_class(dataset.get('type'), cfg.get('default_scope')))
    is_known = finder is not None and 'ignore_orientation' not in steps.get('LoadImageFromFile', {}).get(
        'color_type', ''
    )
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
        by_url=finder == 'LVISV1Dataset',
        min_size=filters.get('min_size', 0),
    )


def _finds_files_as(cls: Any) -> str | None:
    """The dataset of mmdet whose way to find images a class has; ``None``: another way."""
    from mmdet.datasets import CocoDataset, LVISV1Dataset

    if not issubclass(cls, CocoDataset):
        return CocoDataset.__name__
    methods = ('load_data_list', 'parse_data_info')
    known = (k for k in (CocoDataset, LVISV1Dataset) if all(getattr(cls, m) is getattr(k, m) for m in methods))
    return next((k.__name__ for k in known), None)


class Summary(NamedTuple):
    """What is kept of an annotation file without errors: all of COCO's annotations take 3 GB."""

    categories: list[str]  # their names
    images: int
    side: float  # the longest of the images' shorter sides, in pixels

    @classmethod
    def of(cls, content: dict[str, Any]) -> 'Summary':
        """Sum up the content of a file."""
        names = [category['name'] for category in content['categories']]
        sides = (min(image['width'], image['height']) for image in content['images'])
        return cls(names, len(content['images']), max(sides, default=0))


def check_coco(file: CocoFile, images: bool = True) -> Summary:
    """The cheap check before training: annotations, the presence of images, the sizes of some.

    Args:
        file: And how it is used.
        images: Whether to look at images.

    Raises:
        InputError: Training or evaluation would break or be silently wrong.
    """
    stage(f'Checking {file.path} and its images')
    with no_collection():
        content = read_annotations(file.path)
        problem = worst(check_entries(content, **file.needs))
        if images and not problem:
            problem = worst(_check_some_images(content, file))
    if problem:
        where = f'{file.path} {file.folder}' if file.folder else f'{file.path} --no-images'
        where += '' if file.masks else ' --no-masks'
        raise InputError(
            f'{problem.sentence(file.path, content)}; `xvit-det check-data {where}` lists everything that is wrong, '
            'and with --fix it writes a file without that'
        )
    return Summary.of(content)


def _check_some_images(content: dict[str, Any], file: CocoFile) -> list[Problem]:
    if file.folder is None:
        return []
    spread = np.linspace(0, len(content['images']) - 1, SAMPLES).astype(int)
    return check_listed(content, file.folder, file.by_url) or check_opened(
        content, file.folder, spread.tolist(), by_url=file.by_url, whole=False
    )
