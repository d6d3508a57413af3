"""What the commands share: options, and how errors are shown."""

import functools
import os
import shlex
import shutil
import sys
import tempfile
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xvit_det.errors import INSTALL_OPENMMLAB, InputError, LocalError, sentence
from xvit_det.stages import begin, end

if TYPE_CHECKING:
    from xvit_det.inference import Predictor

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')

OPTIONS_HELP = """
--cfg-options takes KEY=VALUE pairs; KEY is a path into the config such as model.backbone.drop_path_rate or
train_dataloader.dataset.pipeline.0.type. A key must exist in the config and be read after the file (variables of the
file, such as data_root or train_pipeline, are not: they have already been used), except that new keys are accepted
  * in a dict with a type, if the constructor of that class has an argument of this name,
  * at the top level and in data loaders, if mmengine's Runner or torch's DataLoader knows the name,
  * below a value that is None or new, and in dicts whose keys are free: paramwise_cfg, metainfo, data_prefix,
    default_hooks, env_cfg, and below _delete_=True.
Anything else is reported with the closest names. List values: KEY="[a,b]" or KEY=a,b; a list's element: KEY.0=a.
Tuples: KEY="(a,b)", with the quotes; a list in the place of a tuple becomes one.
"""


def command(run: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: an :class:`InputError` becomes one sentence on stderr and an exit status, mostly 2.

    So does a missing module where OpenMMLab, which brings all of them, is not installed.
    """

    @functools.wraps(run)
    def main(*args: Any) -> None:
        # Every torch.load of this process reads data only. OneDL's mmengine would otherwise retry a checkpoint that
        # cannot be read safely with code execution allowed. A library should not decide this for its user; we do.
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
        if not args:  # it is a script's, with the arguments of the process
            begin()
        try:
            run(*args)
        except ModuleNotFoundError as error:
            if find_spec('mmengine'):
                raise
            print(f'error: this command needs {error.name}: {INSTALL_OPENMMLAB}', file=sys.stderr, flush=True)
            raise SystemExit(2) from None
        except InputError as error:
            if os.environ.get('LOCAL_RANK', '0') == '0' or isinstance(error, LocalError):
                print(f'error: {sentence(error)}', file=sys.stderr, flush=True)
            raise SystemExit(error.exit_status) from None
        except KeyboardInterrupt:
            print('Stopped by Ctrl-C.', file=sys.stderr, flush=True)
            raise SystemExit(130) from None
        finally:
            end()
        if 'mmengine' in sys.modules:
            from xvit_det.config.launch import leave_group

            leave_group()

    return main


def program(name: str) -> str:
    """How the user called this command: ``xvit-det paper-tables``, or ``paper_tables.py`` in ``tools/``."""
    called = Path(sys.argv[0]).name
    return called if called == f'{name.replace("-", "_")}.py' else f'xvit-det {name}'


def command_line(*words: str | Path) -> str:
    """``xvit-det`` with these words, as a shell takes it in this folder, also outside the environment."""
    script = Path(sys.executable).with_name('xvit-det')
    start = (
        [min(os.path.relpath(script), str(script), key=len)] if script.exists() else [sys.executable, '-m', 'xvit_det']
    )
    if script.exists() and shutil.which('xvit-det') == str(script):
        start = ['xvit-det']
    return shlex.join([*start, *map(str, words)])


def make_parser(name: str, description: str, epilog: str = '') -> ArgumentParser:
    """A parser for the command of this name; options are never abbreviated."""
    return ArgumentParser(
        prog=program(name),
        description=description,
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


class Pairs(Action):
    """Keeps ``KEY=VALUE`` texts of all its occurrences, and refuses a text without the ``=``."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: Any = None) -> None:
        for pair in values:
            if '=' not in pair:
                parser.error(f'{option_string} takes KEY=VALUE pairs, but got {pair!r}')
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *values])


def add_config_arguments(parser: ArgumentParser) -> None:
    """The config, its data and its overrides."""
    parser.add_argument('config', help='config file, or the name of a shipped one such as mask_rcnn_xvit_s_3x')
    parser.add_argument('--data-root', metavar='DIR', help='folder of the data, instead of the one in the config')
    parser.add_argument(
        '--cfg-options', nargs='+', action=Pairs, default=[], metavar='KEY=VALUE', help='override config values'
    )


def add_run_arguments(parser: ArgumentParser) -> None:
    """What training and testing have in common beside the config."""
    parser.add_argument('--work-dir', metavar='DIR', help='logs and results (default: work_dirs/<config name>)')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how the processes are started')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by some launchers')


def check_positive(args: Namespace, *names: str) -> None:
    """Raise unless the named options, where given, are at least 1.

    Raises:
        InputError: One is not.
    """
    for name in names:
        value = getattr(args, name.replace('-', '_'), None)
        if value is not None and value < 1:
            raise InputError(f'--{name} must be at least 1, not {value}')


def share(text: str) -> float:
    """An argument from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f'{text!r} is not a number from 0 to 1')
    return value


def add_model_arguments(parser: ArgumentParser) -> None:
    """What :func:`load_models` needs beside the checkpoints."""
    parser.add_argument(
        '--config',
        '--model',
        action='append',
        default=[],
        help='shipped config by name, or a file; once for all checkpoints or for each (default: the one beside it)',
    )
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')


def load_models(args: Namespace) -> list['Predictor']:
    """The models of ``args.checkpoint``, with ``args.config``: none, one for all, or one for each.

    Raises:
        InputError: There are more or fewer configs, or one of the models cannot be loaded.
    """
    from xvit_det.inference import load

    number = len(args.checkpoint)
    if len(args.config) not in (0, 1, number):
        raise InputError(f'{len(args.config)} configs for {number} checkpoints: give one for all, or one for each')
    configs = args.config * (number // len(args.config)) if args.config else [None] * number
    pairs = zip(args.checkpoint, configs, strict=True)
    return [load(checkpoint, config, device=args.device) for checkpoint, config in pairs]


def check_writable(folder: Path, option: str = '--out') -> None:
    """Before any work: make sure that the folder of an option exists, or make it, and that it takes files.

    Raises:
        InputError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f'{option}: {folder} cannot be written: {error.strerror}') from error


Arguments = Sequence[str] | None  # of a command: None takes those of the process
