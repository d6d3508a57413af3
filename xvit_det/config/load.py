"""From a config's name to one that a Runner takes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from xvit_det.compat.quiet import import_quietly
from xvit_det.config.data_paths import SPLITS, set_data_root
from xvit_det.config.options import apply_options, parse_options
from xvit_det.errors import InputError
from xvit_det.hub import find_config


def read_config(name_or_path: str | Path) -> Config:
    """A config file as it is, with what it names imported, without OpenMMLab's remarks.

    Raises:
        InputError: No such config, or one that cannot be read.
    """
    path = find_config(name_or_path)
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
        scope = cfg.get('default_scope')
        if scope in ('mmdet', 'mmpretrain', 'mmseg'):
            import_quietly(scope)
        if cfg.get('custom_imports'):  # after OpenMMLab, whose remarks their own imports of it would show
            import_modules_from_strings(**cfg.custom_imports)
    except (OSError, SyntaxError, ImportError) as error:
        raise InputError(f'config {path} cannot be used: {error}') from error
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
    if 'model' not in cfg:
        raise InputError(f'config {path} describes no model; give one that can be trained, not a part of one')
    if data_root:
        set_data_root(cfg, data_root)
    apply_options(cfg, parse_options(options))
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


@contextmanager
def config_mistakes(cfg: Config) -> Iterator[None]:
    """Around building what a config describes: its mistakes become one sentence.

    Raises:
        InputError: The config names a class that is not registered, or gives a class an argument that it does not have.
    """
    try:
        yield
    except KeyError as error:
        if 'registry' not in str(error):
            raise
        raise InputError(f'the config names an unknown class: {error.args[0].splitlines()[0]}') from error
    except TypeError as error:
        if 'unexpected keyword argument' not in str(error):
            raise
        if cfg.model.get('pretrained'):  # which mmseg hands to the backbone
            raise InputError(
                f'model.pretrained={cfg.model.pretrained!r} is not for this backbone: set it to None'
            ) from error
        raise InputError(
            f'{str(error).splitlines()[0]}; if it is left over from the base config, as depth and pretrained of a '
            f'ResNet, add _delete_=True to the dict that replaces it'
        ) from error
