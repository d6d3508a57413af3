"""The shipped configs by name: find one, list them, build the model of one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from xvit_det.backbones.pretrained import load_pretrained
from xvit_det.errors import INSTALL_OPENMMLAB, InputError, suggest
from xvit_det.signatures import constructor_arguments

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

MMDET = 'mmdet::'  # as in MMEngine's _base_ = 'mmdet::_base_/default_runtime.py'


def config_dir() -> Path:
    """Directory of the shipped configs: inside an installed wheel, or beside the package in a clone.

    Raises:
        InputError: The package was installed without its configs.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / '.mim' / 'configs', package.parent / 'configs'):
        if folder.is_dir():
            return folder
    raise InputError(f'no configs beside or inside {package}: install xvit_det from its wheel or from a clone')


def _shipped_configs() -> dict[str, Path]:
    """Name to file, without the files in ``_base_``, which only other configs use."""
    root = config_dir()
    files = (file for file in root.rglob('*.py') if '_base_' not in file.relative_to(root).parts)
    return {file.stem: file for file in sorted(files)}


def find_config(name_or_path: str | Path) -> Path:
    """Path of a config file.

    Args:
        name_or_path: A file, or the name of a shipped config with or without directory and ``.py``, or
            ``'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'``: a config that the installed mmdet ships.

    Raises:
        InputError: Neither such a file nor such a name; the message lists the close ones.
    """
    if str(name_or_path).startswith(MMDET):
        return _find_mmdet_config(str(name_or_path).removeprefix(MMDET))
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = _shipped_configs()
    name = path.name.removesuffix('.py')
    # Directories in the given path must match too: my_configs/x.py is not configs/x.py.
    if name not in shipped or shipped[name].parts[-len(path.parts) :] != path.with_name(f'{name}.py').parts:
        raise InputError(f'no config {str(name_or_path)!r}; {suggest(name, shipped)}')
    return shipped[name]


def mmdet_config_dir() -> Path:
    """Directory of the configs inside the installed mmdet.

    Raises:
        InputError: mmdet is not installed.
    """
    spec = find_spec('mmdet')
    if spec is None or spec.origin is None:
        raise InputError(f'mmdet is not installed: {INSTALL_OPENMMLAB}')
    return Path(spec.origin).parent / '.mim' / 'configs'


def _find_mmdet_config(name: str) -> Path:
    root = mmdet_config_dir()
    path = root / f'{name.removesuffix(".py")}.py'
    if not path.is_file():
        names = sorted(str(file.relative_to(root)) for file in root.rglob('*.py'))
        raise InputError(f'mmdet has no config {name!r}; {suggest(name, names)}')
    return path


def list_models(pattern: str = '*') -> list[str]:
    """Names that :func:`create_model` takes, sorted.

    Args:
        pattern: Shell-style filter, such as ``'mask_rcnn_*'`` or ``'*_in1k'``.
    """
    return sorted(name for name in _shipped_configs() if fnmatchcase(name, pattern))


def create_model(name: str | Path, pretrained: str | Path | None = None, **overrides: Any) -> nn.Module:
    """Build the detector, segmentor or classifier of a config, in evaluation mode.

    Registries, default scope and log level are not changed. The model has its config as ``model.cfg``. mmdet's
    inference functions also need a call of ``mmdet.utils.register_all_modules()`` first.

    Args:
        name: One of :func:`list_models`, or the path of a config file.
        pretrained: Checkpoint file with the weights of this model, or of the published one that it equals; ``None``:
            initial weights.
        **overrides: Merged into the ``model`` part of the config: ``backbone=dict(with_cp=True)``.

    Returns:
        The model in evaluation mode; ``.train()`` for training.

    Raises:
        InputError: An unknown name or override (the message lists the close ones), or a checkpoint of which nothing
            fits.
        ModuleNotFoundError: mmengine is not installed.
    """
    path = find_config(name)
    try:
        from mmengine.config import Config
        from mmengine.registry import MODELS
    except ModuleNotFoundError as error:
        if error.name != 'mmengine':
            raise
        raise ModuleNotFoundError(f'create_model needs mmengine: {INSTALL_OPENMMLAB}', name='mmengine') from None
    cfg = Config.fromfile(path)
    complete_model(cfg)
    _check_overrides(overrides, cfg.model, cfg.default_scope, where='')
    cfg.merge_from_dict({'model': _replacing(overrides, cfg.model)})
    model = MODELS.build({**cfg.model, '_scope_': cfg.default_scope})
    with _quiet_init():
        model.init_weights()
    if pretrained is not None:
        load_pretrained(model, str(pretrained))
    model.cfg = model._config = cfg  # where mmdet's and mmpretrain's inference look for it
    model.eval()  # which in mmdet's distillation models returns nothing
    return model


def complete_model(cfg: 'Config') -> None:
    """Move the data preprocessor, which mmpretrain configs keep beside the model, into it, as the Runner does."""
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)


def _check_overrides(overrides: dict, part: 'ConfigDict', scope: str, where: str) -> None:
    """Raise unless every key is in the config or an argument of the class that the config names there."""
    from mmengine.registry import MODELS

    with MODELS.switch_scope_and_registry(scope) as registry:
        arguments = constructor_arguments(registry.get(overrides.get('type', part.get('type'))))
    known = {*part, '_delete_', *(arguments or ())}
    for key, value in overrides.items():
        if arguments is not None and key not in known:
            raise InputError(f'unknown override {where + key!r}; {suggest(key, sorted(known))}')
        if isinstance(value, dict) and 'type' in (part.get(key) or {}):
            _check_overrides(value, part[key], scope, f'{where}{key}.')


def _replacing(overrides: dict, part: Any) -> dict:
    """Mark dicts that replace something else, such as a mixer's name: mmengine merges a dict into a dict only."""
    if not isinstance(part, dict):
        return {**overrides, '_delete_': True}
    return {
        key: _replacing(value, part[key]) if isinstance(value, dict) and key in part else value
        for key, value in overrides.items()
    }


@contextmanager
def _quiet_init() -> Iterator[None]:
    """Drop mmengine's line for every initialized parameter from the log, and no other."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()

    def keep(record: logging.LogRecord) -> bool:
        return record.funcName != '_dump_init_info'

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
