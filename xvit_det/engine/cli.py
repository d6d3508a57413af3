"""What the train and test commands share: their options, the config they lead to, and how errors are shown."""

import functools
import gc
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch.distributed
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from xvit_det.compat.checkpoint import refuse_unsafe_checkpoints
from xvit_det.engine import options
from xvit_det.engine.amp import amp_available
from xvit_det.engine.console import ScreenRunner, import_quietly
from xvit_det.engine.datasets import SPLITS, set_data_root
from xvit_det.errors import InputError
from xvit_det.hub import find_config

# The environment variable by which each launcher tells a process its number.
RANK_VARIABLES = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}


def command(run: Callable[[Sequence[str] | None], None]) -> Callable[[Sequence[str] | None], None]:
    """Make ``run(argv)`` a command: an :class:`InputError` becomes one sentence on stderr and exit status 2."""

    @functools.wraps(run)
    def main(argv: Sequence[str] | None = None) -> None:
        refuse_unsafe_checkpoints()
        try:
            run(argv)
        except InputError as error:
            if os.environ.get('LOCAL_RANK', '0') == '0':
                print(f'error: {error}', file=sys.stderr, flush=True)
            raise SystemExit(2) from None
        leave_group()

    return main


def leave_group() -> None:
    """Part from the other processes together, the model's part in the group gone first; gloo aborts otherwise."""
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def make_parser(description: str) -> ArgumentParser:
    """A parser with the options that training and testing have in common."""
    parser = ArgumentParser(
        description=description, epilog=options.HELP, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('config', help='config file, or the name of a shipped one such as mask_rcnn_xvit_s_3x')
    parser.add_argument('--work-dir', help='folder for logs and results (default: work_dirs/<config name>)')
    parser.add_argument('--data-root', metavar='DIR', help='folder of the data, instead of the one in the config')
    parser.add_argument(
        '--cfg-options', nargs='+', action=options.OptionsAction, metavar='KEY=VALUE', help='override config values'
    )
    parser.add_argument('--launcher', choices=['none', *RANK_VARIABLES], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by some launchers')
    return parser


def load_config(args: Namespace) -> Config:
    """The config that the common options describe, ready for a Runner.

    Raises:
        InputError: no such config, a config that cannot be read, or an option that does not fit it.
    """
    path = find_config(args.config)
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
        scope = cfg.get('default_scope')
        if scope in ('mmdet', 'mmpretrain'):
            import_quietly(scope)
        if cfg.get('custom_imports'):  # after OpenMMLab, whose remarks their own imports of it would show
            import_modules_from_strings(**cfg.custom_imports)
    except (OSError, SyntaxError, ImportError) as error:
        raise InputError(f'config {path} cannot be used: {error}') from error
    if 'model' not in cfg:
        raise InputError(f'config {path} describes no model; give one that can be trained, not a part of one')
    if args.data_root:
        set_data_root(cfg, args.data_root)
    options.apply_options(cfg, args.cfg_options or {})
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', path.stem))
    set_loader_defaults(cfg)
    _set_launcher(cfg, args.launcher, args.local_rank)
    return cfg


def set_loader_defaults(cfg: Config) -> None:
    """Data loader settings that mmpretrain's own command adds, and those that torch refuses without workers."""
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if not loader:
            continue
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))
        if loader.get('num_workers', 0) == 0:
            loader.persistent_workers = False
            loader.pop('prefetch_factor', None)


def _set_launcher(cfg: Config, launcher: str, local_rank: int) -> None:
    """Join the other processes. mmengine does it too, but only with GPUs; without them it is done here, over gloo."""
    cfg.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'none':
        return
    if RANK_VARIABLES[launcher] not in os.environ:
        raise InputError(
            f'--launcher {launcher} finds no {RANK_VARIABLES[launcher]} in the environment; start it with '
            f'tools/dist_train.sh or dist_test.sh (torchrun), tools/slurm_train.sh or slurm_test.sh, or mpirun'
        )
    if amp_available():
        return
    if launcher != 'pytorch':
        raise InputError(f'--launcher {launcher} needs GPUs; on CPUs use --launcher pytorch (tools/dist_train.sh)')
    join_cpu_group(cfg)


def join_cpu_group(cfg: Config) -> None:
    """Join the processes that RANK and WORLD_SIZE in the environment tell of, over gloo, and set the config for it."""
    cfg.launcher = 'pytorch'
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def build_runner(cfg: Config) -> Runner:
    """mmengine's Runner for the config.

    Raises:
        InputError: the config names a class that is not registered.
    """
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else ScreenRunner.from_cfg(cfg)
    except KeyError as error:
        if 'registry' not in str(error):
            raise
        raise InputError(f'the config names an unknown class: {error.args[0].splitlines()[0]}') from error
