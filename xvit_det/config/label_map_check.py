"""Check the label maps of a segmentation dataset: mmseg leaves out images by their ending, and trains on any values."""

import logging
import os
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.fileio import list_dir_or_file
from mmengine.logging import print_log
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope

from xvit_det.compat.quiet import without_remarks
from xvit_det.config.data_paths import resolve
from xvit_det.errors import InputError

SAMPLES = 8  # label maps that are opened


def has_label_maps(dataset: ConfigDict) -> bool:
    """Whether a dataset of mmseg reads label maps from a folder that its config names."""
    prefix = dataset.get('data_prefix')
    return isinstance(prefix, dict) and bool(prefix.get('seg_map_path')) and not dataset.get('backend_args')


def check_label_maps(dataset: ConfigDict) -> int:
    """Check that images and label maps belong together, and the values of some label maps.

    Args:
        dataset: The config of a dataset for which :func:`has_label_maps` is true; its folders exist.

    Returns:
        The number of images.

    Raises:
        InputError: There are no images, an image or a label map stands alone, or a label map is not one of the classes.
    """
    images = resolve(dataset, dataset.data_prefix.get('img_path', ''))
    try:
        with without_remarks():  # on the palette and on reduce_zero_label
            found = DATASETS.build({**dataset, 'pipeline': [], 'serialize_data': False, '_scope_': 'mmseg'})
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise InputError(f'the dataset {dataset.type} cannot be used: {str(error).splitlines()[0]}') from error
    if not found.metainfo.get('classes'):
        raise InputError(f'the dataset {dataset.type} has no class names; set metainfo=dict(classes=(...)) in each')
    if not len(found):
        raise InputError(f'{images} holds no image whose name ends in {found.img_suffix!r}; set img_suffix')
    entries = [found.get_data_info(i) for i in range(len(found))]
    _check_pairs(dataset, found, entries)
    chosen = sorted({i * (len(entries) - 1) // (SAMPLES - 1) for i in range(SAMPLES)})
    seen = set().union(*(_check_values(dataset, found, entries[i]) for i in chosen))
    if len(seen) < 2 <= len(found.metainfo['classes']):
        print_log(
            f'The {len(chosen)} label maps that were looked at hold at most one class ({sorted(seen)}) and pixels that '
            f'are ignored ({found.ignore_index}): is an object marked with {found.ignore_index} instead of its class?',
            logger='current',
            level=logging.WARNING,
        )
    return len(entries)


def _check_pairs(dataset: ConfigDict, found: Any, entries: list[dict]) -> None:
    """Every image has its label map and, where mmseg lists a folder instead of reading a file, the reverse."""
    folder, ending = found.data_prefix['seg_map_path'], found.seg_map_suffix
    alone = [entry['img_path'] for entry in entries if not os.path.isfile(entry['seg_map_path'])]
    if alone:
        raise InputError(
            f'{len(alone)} of the {len(entries)} images have no label map in {folder}, the first is {alone[0]}; '
            f'a label map is named as its image with {ending!r} (seg_map_suffix) instead of {found.img_suffix!r} '
            f'(img_suffix)'
        )
    if dataset.get('ann_file') or dataset.get('indices'):
        return
    maps = {os.path.join(folder, name) for name in list_dir_or_file(folder, False, ending, recursive=True)}
    alone = sorted(maps - {entry['seg_map_path'] for entry in entries})
    if alone:
        raise InputError(
            f'{len(alone)} of the {len(maps)} label maps in {folder} have no image whose name ends in '
            f'{found.img_suffix!r}, the first is {alone[0]}; mmseg would leave them out in silence: if that is meant, '
            f'list the names to use in a file, ann_file'
        )


def _check_values(dataset: ConfigDict, found: Any, entry: dict) -> set[int]:
    """Load a label map and its image as the pipeline does, and return the classes."""
    import mmcv

    path, number = entry['seg_map_path'], len(found.metainfo['classes'])
    steps = [step for step in dataset.get('pipeline') or () if step['type'].endswith('LoadAnnotations')]
    try:
        with DefaultScope.overwrite_default_scope('mmseg'), without_remarks():
            step = TRANSFORMS.build(dict(steps[0] if steps else dict(type='LoadAnnotations')))
            loaded = step({**entry})['gt_seg_map']
    except (AssertionError, OSError) as error:
        raise InputError(f'label map {path} cannot be read: {error}') from error
    if loaded.ndim != 2:
        raise InputError(
            f'label map {path} is a colour image of shape {loaded.shape}; write an image of one channel whose values '
            f'are the numbers of the classes'
        )
    image = mmcv.imread(entry['img_path'])
    if image is None:
        raise InputError(f'image {entry["img_path"]} cannot be read')
    if loaded.shape != (size := image.shape[:2]):
        raise InputError(f'label map {path} is {loaded.shape}, but its image {entry["img_path"]} is {size}')
    values = set(np.unique(loaded).tolist()) - {found.ignore_index}
    wrong = sorted(value for value in values if value >= number)
    if wrong:
        shift = ' (after reduce_zero_label, which subtracts one)' if found.reduce_zero_label else ''
        raise InputError(
            f'label map {path} has the values {wrong}{shift}, but the {number} classes are 0 to {number - 1}, and '
            f'{found.ignore_index} is ignored; correct the label maps or the classes'
        )
    return values
