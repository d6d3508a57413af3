"""The datasets of a config: find them, and point all of them at another folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from xvit_det.config.options import find_class
from xvit_det.errors import InputError
from xvit_det.signatures import type_name

SPLITS = ('train', 'val', 'test')


def dataset_configs(cfg: Config, split: str) -> Iterator[ConfigDict]:
    """The datasets of a split; of wrappers (RepeatDataset, ConcatDataset, ...) those inside."""
    yield from _unwrap((cfg.get(f'{split}_dataloader') or {}).get('dataset'))


def _unwrap(dataset: Any) -> Iterator[ConfigDict]:
    if not isinstance(dataset, dict):
        return
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets')
    if inner is None:
        yield dataset
    for child in inner or ():
        yield from _unwrap(child)


def inference_pipeline(cfg: Config) -> list[ConfigDict]:
    """The steps that prepare a test image, without those that read annotations.

    Raises:
        InputError: The config has none.
    """
    tests = [dataset for split in ('test', 'val') for dataset in dataset_configs(cfg, split) if 'pipeline' in dataset]
    if not tests:
        raise InputError(f'config {cfg.filename} has no pipeline for test images')
    return [step for step in tests[0].pipeline if 'Annotations' not in str(step['type'])]


def without_resizing(pipeline: list[ConfigDict]) -> list[ConfigDict]:
    """A pipeline for test images that keeps their size.

    Args:
        pipeline: Its steps, of mmdet's or mmseg's ``Resize``.

    Raises:
        InputError: It has no such step.
    """
    if not any(_resizes(step) for step in pipeline):
        names = ', '.join(str(step['type']) for step in pipeline)
        raise InputError(f'full size: the steps of the config ({names}) have no Resize that could be left out')
    # A step stays: heads ask for the factor that it writes down.
    return [ConfigDict(type=step['type'], scale_factor=1.0) if _resizes(step) else step for step in pipeline]


def _resizes(step: ConfigDict) -> bool:
    return type_name(step) in ('Resize', 'FixScaleResize')


def metric_configs(cfg: Config, split: str) -> list[ConfigDict]:
    """The metrics of a split's evaluator, given as one dict, a list, or a dict with ``metrics``."""
    evaluator = cfg.get(f'{split}_evaluator') or []
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        evaluator = evaluator['metrics']
    return [evaluator] if isinstance(evaluator, dict) else list(evaluator)


def set_data_root(cfg: Config, folder: str) -> None:
    """Point every dataset and metric of ``cfg`` at ``folder``, keeping their paths inside it.

    For datasets with a folder of a fixed name, such as CIFAR-10, give that folder or its parent.

    Raises:
        InputError: the folder does not exist, or a dataset's paths are not relative to a ``data_root``.
    """
    if not Path(folder).is_dir():
        raise InputError(f'--data-root: {folder!r} is not a folder')
    for split in SPLITS:
        old = cfg.get('data_root')
        for dataset in dataset_configs(cfg, split):
            old = dataset.get('data_root') or old
            if not old:
                raise InputError(f'--data-root: the {split} dataset {dataset.get("type")} has no data_root to replace')
            _move(dataset, old, folder)
            dataset['data_root'] = _holder(folder, dataset, cfg.get('default_scope'))
        for metric in metric_configs(cfg, split):
            if old:
                _move(metric, old, folder)
    if 'data_root' in cfg:
        cfg.data_root = folder


def _holder(folder: str, dataset: ConfigDict, scope: str | None) -> str:
    """``folder``, or its parent if it is itself the ``base_folder`` that the dataset's class looks for."""
    inside = getattr(find_class(dataset.get('type'), scope), 'base_folder', None)
    path = Path(folder).resolve()
    return str(path.parent) if path.name == inside else folder


def _move(node: ConfigDict, old: str, new: str) -> None:
    """Replace the folder ``old`` with ``new`` in a dict's paths that begin with it."""
    for key, value in node.items():
        if isinstance(value, str) and key in ('ann_file', 'img', 'seg', 'data_prefix', 'img_path', 'seg_map_path'):
            if Path(value).is_relative_to(old):
                node[key] = str(Path(new, Path(value).relative_to(old)))
        elif key == 'data_prefix' and isinstance(value, dict):
            _move(value, old, new)


def resolve(dataset: ConfigDict, path: str) -> str:
    """A dataset's ``path`` as mmengine finds it: below ``data_root`` unless absolute."""
    return str(Path(dataset.get('data_root') or '', path)) if '://' not in path else path
