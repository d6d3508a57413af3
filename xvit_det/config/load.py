"""From a config's name to one that a Runner takes."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from xvit_det.compat.quiet import import_quietly
from xvit_det.config.data_paths import SPLITS, set_data_root
from xvit_det.config.mistakes import told_reading
from xvit_det.config.options import apply_options, check_names, parse_options
from xvit_det.config.run_check import check_sections
from xvit_det.errors import InputError
from xvit_det.hub import find_config


def read_config(name_or_path: str | Path) -> Config:
    """A config file as it is, with what it names imported, without OpenMMLab's remarks.

    Raises:
        InputError: No such config, or one that cannot be read.
    """
    path = find_config(name_or_path)
    with told_reading(path):
        cfg = Config.fromfile(path, import_custom_modules=False)
        scope = cfg.get('default_scope')
        if scope in ('mmdet', 'mmpretrain', 'mmseg'):
            import_quietly(scope)
        if cfg.get('custom_imports'):  # after OpenMMLab, whose remarks their own imports of it would show
            import_modules_from_strings(**cfg.custom_imports)
    return cfg


def load_config(
    name_or_path: str | Path,
    *,
    data_root: str | None = None,
    options: Sequence[str] = (),
    work_dir: str | None = None,
) -> Config:
    """Load a config, import what it names, and apply what the command line says.

    Args:
        name_or_path: A config file, or the name of a shipped one.
        data_root: Folder of the data, instead of the one in the config.
        options: Overrides, each ``'key.path=value'``.
        work_dir: Folder for logs and results; ``None``: the config's own, or ``work_dirs/<config name>``.

    Raises:
        InputError: No such config, a config that cannot be read, or an option that does not fit it.
    """
    cfg = read_config(name_or_path)
    path = Path(cfg.filename)
    if cfg.get('model') is None:
        raise InputError(f'config {path} describes no model; give one that can be trained, not a part of one')
    check_names(cfg)
    check_sections(cfg)
    if data_root:
        set_data_root(cfg, data_root)
    apply_options(cfg, parse_options(options))
    check_sections(cfg)
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs', path.stem))
    set_loader_defaults(cfg)
    return cfg


def set_loader_defaults(cfg: Config) -> None:
    """Data loader settings that mmpretrain's own command adds, and those that torch refuses without workers."""
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if not loader:
            continue
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))
            if isinstance(loader.collate_fn, dict):
                # mmengine would pass it the scope of an inherited 'mmpretrain::...' as an argument
                loader.collate_fn.pop('_scope_', None)
        if loader.get('num_workers', 0) == 0:
            loader.persistent_workers = False
            loader.pop('prefetch_factor', None)
