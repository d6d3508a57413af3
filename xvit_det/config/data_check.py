"""Check the data before training starts: OpenMMLab notices a wrong folder late and wrong class names never.

mmdet drops every category whose name the config does not list, which shifts the labels of the others, and fails on a
missing image only when the sampler reaches it.
"""

import hashlib
import inspect
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from xvit_det.config.coco_data import CocoFile, Summary, check_coco, coco_file, is_coco
from xvit_det.config.data_paths import dataset_configs, metric_configs, resolve
from xvit_det.config.label_map_check import check_label_maps, has_label_maps
from xvit_det.config.options import find_class
from xvit_det.errors import InputError

# Parts of a model whose num_classes does not follow the dataset's.
OTHER_CLASSES = ('backbone', 'neck', 'rpn_head', 'semantic_head', 'teacher', 'init_cfg')


def check_data(
    cfg: Config, splits: Sequence[str], images: bool = True, checked: Mapping[CocoFile, Summary] | None = None
) -> dict[str, int]:
    """Check files, class names and the model's number of classes for ``splits`` ('train', 'val', 'test').

    Args:
        cfg: The config.
        splits: Of the data.
        images: Whether to look at COCO's images, beside the annotations.
        checked: Annotation files that are known to be sound.

    Returns:
        Number of images per split, for the splits that have an annotation file or label maps.

    Raises:
        InputError: a file, folder or image is missing or damaged, a folder holds too few images, or names
            and numbers of classes disagree.
    """
    check_files(cfg, splits)
    counts: dict[str, int] = defaultdict(int)
    files = dict(checked or {})
    summed: set[str] = set()  # folders; all splits are in the same one
    for split in splits:
        for dataset in dataset_configs(cfg, split):
            cls = find_class(dataset.get('type'), cfg.get('default_scope'))
            classes = class_names(dataset, cls)
            if is_coco(dataset, cls):
                file = coco_file(cfg, split, dataset)
                if file not in files:
                    files[file] = check_coco(file, images)
                if files[file].side < file.min_size:
                    raise InputError(
                        f'{file.path} has no image of at least {file.min_size} pixels in width and height, and '
                        'filter_cfg leaves out smaller ones; lower its min_size'
                    )
                _check_categories(file.path, files[file].categories, classes)
                counts[split] += files[file].images
            if _stands_in_base_folder(dataset, cls):
                folder = resolve(dataset, cls.base_folder)
                if folder not in summed:
                    _check_sums(folder, cls)
                    summed.add(folder)
            if cfg.get('default_scope') == 'mmseg' and has_label_maps(dataset):
                counts[split] += check_label_maps(dataset)
            if dataset.get('with_label') is False and not dataset.get('ann_file'):
                loader = cfg[f'{split}_dataloader']
                _check_folder(dataset, cls, loader.batch_size if loader.get('drop_last') else 1)
            if classes:
                _check_num_classes(cfg.model, len(classes), f'the {split} dataset has')
    return dict(counts)


def check_test_data(cfg: Config) -> None:
    """:func:`check_data` for the test split, which must exist.

    Raises:
        InputError: As :func:`check_data`, or the config has no ``test_dataloader``.
    """
    if not cfg.get('test_dataloader'):
        raise InputError(f'config {cfg.filename} has no test_dataloader')
    check_data(cfg, ('test',))


def check_files(cfg: Config, splits: Sequence[str]) -> None:
    """Make sure that the files and folders of ``splits`` exist.

    Raises:
        InputError: Some are missing; all of them are named, not one each run.
    """
    needed = {path: what for split in splits for path, what in _needed_paths(cfg, split)}
    missing = [f'{path} ({what})' for path, what in needed.items() if '://' not in path and not os.path.exists(path)]
    if missing:
        roots = {str(d.get('data_root')) for s in splits for d in dataset_configs(cfg, s) if d.get('data_root')}
        raise InputError(
            f'the data that this config expects in {" and ".join(sorted(roots)) or "its datasets"} is not there: '
            f'missing {", ".join(missing)}; give the folder that has them with --data-root DIR '
            '(`make demo` needs no data)'
        )


def _needed_paths(cfg: Config, split: str) -> Iterator[tuple[str, str]]:
    """Paths that must exist before datasets are built, each with a description. A dataset without ``ann_file`` or
    folders in its config, such as Shapes, takes care of its own files."""
    for dataset in dataset_configs(cfg, split):
        if dataset.get('backend_args'):  # remote storage
            continue
        if dataset.get('ann_file'):
            yield resolve(dataset, dataset['ann_file']), 'annotations'
            yield from ((m['ann_file'], 'annotations') for m in metric_configs(cfg, split) if m.get('ann_file'))
        prefix = dataset.get('data_prefix') or {}
        for key, folder in (prefix if isinstance(prefix, dict) else dict(img=prefix)).items():
            if folder:
                yield resolve(dataset, folder), 'label maps' if key == 'seg_map_path' else 'images'
        cls = find_class(dataset.get('type'), cfg.get('default_scope'))
        if not prefix and dataset.get('split') and hasattr(cls, 'IMG_EXTENSIONS'):  # ImageNet's folders by split
            yield resolve(dataset, dataset['split']), 'images, a folder for each class'
        if _stands_in_base_folder(dataset, cls):
            folder, files = resolve(dataset, cls.base_folder), _required_files(cls)
            if os.path.isdir(folder):
                yield from ((os.path.join(folder, name), f'part of {cls.__name__}') for name in files)
            else:
                yield folder, f'holding {", ".join(files)}'


def _stands_in_base_folder(dataset: ConfigDict, cls: Any) -> bool:
    """Whether the class reads a folder of a fixed name, as CIFAR and Tiny ImageNet, and does not download it."""
    return hasattr(cls, 'base_folder') and not dataset.get('download', hasattr(cls, 'url'))


def _required_files(cls: Any) -> dict[str, str | None]:
    """Files that a class reads in its ``base_folder``, with MD5 sums if known (CIFAR: yes, Tiny ImageNet: no)."""
    return dict([*cls.train_list, *cls.test_list]) if hasattr(cls, 'train_list') else dict.fromkeys(cls.required_files)


def _check_sums(folder: str, cls: Any) -> None:
    for name, md5 in _required_files(cls).items():
        path = Path(folder, name)
        if md5 and hashlib.md5(path.read_bytes()).hexdigest() != md5:
            raise InputError(f'{path} is damaged: its MD5 sum is not {md5}; unpack {cls.__name__} again')


def class_names(dataset: ConfigDict, cls: Any) -> Sequence[str] | None:
    """The class names that a dataset trains with, if its config or its class gives them."""
    names = (dataset.get('metainfo') or {}).get('classes') or dataset.get('classes')
    if isinstance(names, str):
        if not os.path.isfile(names):
            raise InputError(f"metainfo: classes={names!r} is one text, not a list; for one class write ('{names}',)")
        return Path(names).read_text().splitlines()
    if names is None and hasattr(cls, 'METAINFO'):
        names = cls.METAINFO.get('classes')
    return names


def _check_categories(path: str, in_file: list[str], classes: Sequence[str] | None) -> None:
    if not classes:
        raise InputError(f'no class names in the config; set metainfo=dict(classes={_tuple(in_file)}) as {path} has')
    absent = [name for name in classes if name not in in_file]
    if absent:
        raise InputError(
            f"the config's {len(classes)} classes do not match {path}: its {len(in_file)} categories "
            f'{_tuple(in_file)} do not include {_tuple(absent)}; set metainfo=dict(classes={_tuple(in_file)}) in every '
            f'dataset and num_classes={len(in_file)} in every head'
        )
    ordered = [name for name in in_file if name in classes]
    if ordered != list(classes):
        raise InputError(
            f'classes must be in the order of {path}, by which mmdet numbers them: {_tuple(ordered)}, '
            f'not {_tuple(classes)}'
        )


def _tuple(names: Sequence[str], most: int = 12) -> str:
    shown = ', '.join(repr(name) for name in names[:most])
    return f'({shown}, … {len(names) - most} more)' if len(names) > most else f'({shown},)'


def _check_folder(dataset: ConfigDict, cls: Any, needed: int) -> None:
    """A folder of images without labels must hold as many as a batch takes; it is not listed further than that."""
    prefix = dataset.get('data_prefix') or ''
    folder = resolve(dataset, prefix if isinstance(prefix, str) else next(iter(prefix.values())))
    if dataset.get('backend_args') or '://' in folder:
        return
    endings = tuple(dataset.get('extensions') or inspect.signature(cls).parameters['extensions'].default)
    files = (name for *_, names in os.walk(folder, followlinks=True) for name in names)
    found = sum(1 for _ in islice((name for name in files if name.lower().endswith(endings)), needed))
    if found < needed:
        raise InputError(
            f'{folder} and the folders in it hold {found} images ({", ".join(endings)}), but a batch takes {needed}'
        )


def _check_num_classes(model: Any, number: int, source: str, where: str = 'model') -> None:
    if isinstance(model, (list, tuple)):
        for i, child in enumerate(model):
            _check_num_classes(child, number, source, f'{where}.{i}')
    if not isinstance(model, dict):
        return
    for key, value in model.items():
        if key in ('num_classes', 'num_things_classes') and value != number:
            raise InputError(f'{where}.{key} is {value}, but {source} {number} classes; set {where}.{key}={number}')
        if key not in OTHER_CLASSES and isinstance(value, dict | list):
            _check_num_classes(value, number, source, f'{where}.{key}')
