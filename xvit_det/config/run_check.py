"""Check how long a config runs, with which batches and optimizer, before anything is built."""

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from logging import getLevelName
from numbers import Number, Real
from typing import Any

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS

from xvit_det.config.data_paths import SPLITS
from xvit_det.config.mistakes import parts
from xvit_det.config.options import top_level_keys, value_at
from xvit_det.errors import InputError, suggest

# What must be a whole number, and the smallest one.
WHOLE = {
    'train_cfg.max_epochs': 1,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    'optim_wrapper.accumulative_counts': 1,
    'default_hooks.logger.interval': 1,
    **{f'{split}_dataloader.batch_size': 1 for split in SPLITS},
    **{f'{split}_dataloader.num_workers': 0 for split in SPLITS},
}
# What goes together: MMEngine wants all of a row, or none.
TOGETHER = {
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}
SECTIONS = (
    'model',
    'model.backbone',
    'optim_wrapper',
    'default_hooks',
    *(f'{split}_{part}' for split in SPLITS for part in ('dataloader', 'cfg')),
)


def check_sections(cfg: Config) -> None:
    """Check the form of what every command looks into: sections and metrics are dicts, types name classes, the scope is
    installed.

    Raises:
        InputError: One is not.
    """
    for name in SECTIONS:
        if not isinstance(value := value_at(cfg, name.split('.')), Mapping | None):
            raise InputError(f'config {cfg.filename}: {name}={value!r} is not a dict')
    for name, part in parts({key: value for key, value in cfg.items() if key in top_level_keys()}):
        if not _may_name_a_class(part.get('type')):
            raise InputError(f'config {cfg.filename}: {name}.type={part["type"]!r} is not the name of a class')
    for split in SPLITS:
        evaluator = cfg.get(f'{split}_evaluator')
        metrics = evaluator['metrics'] if isinstance(evaluator, Mapping) and 'metrics' in evaluator else evaluator
        for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
            if not isinstance(metric, Mapping | None):
                raise InputError(
                    f'config {cfg.filename}: {split}_evaluator={evaluator!r} is neither a dict nor a list of dicts'
                )
    scope = cfg.get('default_scope')
    if scope is not None and not (isinstance(scope, str) and scope.isidentifier() and find_spec(scope)):
        raise InputError(
            f'config {cfg.filename}: default_scope={scope!r} is no installed package; choices: mmdet, mmseg, mmpretrain'
        )
    level = cfg.get('log_level', 'INFO')
    if isinstance(level, str) and not isinstance(getLevelName(level), int):
        raise InputError(f'config {cfg.filename}: log_level={level!r} is not one of DEBUG, INFO, WARNING, ERROR')
    if not isinstance(cfg.get('resume', False), bool):
        raise InputError(f'config {cfg.filename}: resume={cfg.resume!r} is not True or False')


def _may_name_a_class(kind: Any) -> bool:
    """Whether ``type=`` can stand for a class: a name with dots between its parts, the class itself, or nothing."""
    if isinstance(kind, str):
        return all(kind.split('.'))
    return not isinstance(kind, Number | Sequence | Mapping)


def check_run(cfg: Config, train: bool) -> None:
    """Check the numbers of a run.

    Args:
        cfg: A config from :func:`xvit_det.config.load.load_config`.
        train: Whether it trains; if not, the loaders are looked at alone.

    Raises:
        InputError: A section is missing, nothing would be trained, a batch would be empty, or the optimizer is unknown
            or has settings that are not numbers.
    """
    for split, names in TOGETHER.items():
        missing = [name for name in names if cfg.get(name) is None]
        if missing and (len(missing) < len(names) or (train and split == 'train')):
            raise InputError(f'config {cfg.filename} has no {" and no ".join(missing)}: {", ".join(names)} go together')
    for path, least in WHOLE.items():
        value = value_at(cfg, path.split('.'))
        if value is not None and not (isinstance(value, int) and value >= least):
            raise InputError(f'config {cfg.filename}: {path}={value!r} is not a whole number of at least {least}')
    if train:
        _check_optimizer(cfg)


def _check_optimizer(cfg: Config) -> None:
    optimizer = value_at(cfg, ('optim_wrapper', 'optimizer'))
    if not isinstance(optimizer, Mapping):  # of several models, each has its own
        return
    name = optimizer.get('type')
    if isinstance(name, str) and OPTIMIZERS.children.get(cfg.get('default_scope'), OPTIMIZERS).get(name) is None:
        raise InputError(
            f'config {cfg.filename}: optim_wrapper.optimizer.type={name!r} is not an optimizer; '
            f'{suggest(name, sorted(OPTIMIZERS.module_dict))}'
        )
    for key in ('lr', 'weight_decay', 'momentum'):
        value = optimizer.get(key, 0)
        if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
            raise InputError(
                f'config {cfg.filename}: optim_wrapper.optimizer.{key}={value!r} is not a number of at least 0'
            )
