"""The command line: ``speed``, ``memory``, ``scaling``, ``loader``, ``detector``, ``plot`` and ``table``."""

import argparse
from importlib import import_module
from pathlib import Path

import torch

from xvit_det.benchmark.models import OURS, PEERS, check_name, parse_size
from xvit_det.benchmark.steps import DTYPES, MODES, check_device
from xvit_det.cli.common import OPTIONS_HELP, Arguments, add_config_arguments, check_positive, command, program
from xvit_det.errors import InputError

MODELS_HELP = f"""
models: {', '.join(OURS)}
peers (mmpretrain's): {', '.join(PEERS)}
or the path or name of any config, whose backbone is measured as it is there.
"""
# command -> the module and function that do it
RUN = {
    'speed': ('speed', 'run'),
    'memory': ('scaling', 'run_memory'),
    'scaling': ('scaling', 'run_scaling'),
    'loader': ('loader', 'run'),
    'detector': ('detector', 'run'),
    'plot': ('pictures', 'run'),
    'table': ('tables', 'run'),
}
ON_RECORDS = ('plot', 'table')  # they measure nothing


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    if args.kind not in ON_RECORDS:
        _prepare(args)
    module, function = RUN[args.kind]
    getattr(import_module(f'xvit_det.benchmark.{module}'), function)(args)


def _prepare(args: argparse.Namespace) -> None:
    """Check the values that argparse leaves alone, before anything is measured."""
    check_positive(args, 'batch', 'threads', 'repeats', 'batches')
    for key, known in (('dtype', DTYPES), ('mode', MODES)):
        for value in getattr(args, key, ()):
            if value not in known:
                raise InputError(f'--{key} {value!r} is not one of {", ".join(known)}')
    for name in getattr(args, 'models', ()):
        check_name(name)
    for key in ('sizes', 'random'):
        if getattr(args, key, None):
            given = getattr(args, key)
            setattr(args, key, [parse_size(s) for s in given] if key == 'sizes' else parse_size(given))
    if min(getattr(args, 'workers', [0])) < 0:
        raise InputError(f'--workers must not be negative, but is {min(args.workers)}')
    check_device(args.device)
    args.threads = args.threads or torch.get_num_threads()
    torch.set_num_threads(args.threads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program('benchmark'), description=__doc__, allow_abbrev=False)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='COMMAND')
    for kind, text in (
        ('speed', 'time of a call or training step, beside peers and the peak of the machine'),
        ('memory', 'peak memory of a call or training step, with and without with_cp'),
        ('scaling', 'time and memory against the number of tokens, with the fitted exponent'),
    ):
        _add_model_options(_subparser(kinds, kind, text, MODELS_HELP), kind)
    loader = _subparser(kinds, 'loader', "is a config's data pipeline fast enough for its model?", OPTIONS_HELP)
    add_config_arguments(loader)
    loader.add_argument('--workers', nargs='+', type=int, default=[0, 1, 2, 4], help='processes (default: 0 1 2 4)')
    loader.add_argument('--batches', type=int, default=20, help='batches to load for each (default: %(default)s)')
    detector = _subparser(
        kinds, 'detector', "where the time of a detector's training step and test step goes", OPTIONS_HELP
    )
    add_config_arguments(detector)
    detector.add_argument('--random', metavar='SIZE', help='random images of this size instead of the data')
    detector.add_argument('--batch', type=int, default=2, help='random images in a step (default: %(default)s)')
    detector.add_argument('--checkpoint', help='weights; random ones find no objects, so that no masks are made')
    plot = _subparser(kinds, 'plot', 'the picture of a record of speed, memory or scaling', '')
    plot.add_argument('record', type=Path, metavar='JSON', help='what --json wrote')
    plot.add_argument('--out', type=Path, metavar='FILE', help='PNG, SVG or PDF (default: beside the JSON)')
    table = _subparser(kinds, 'table', 'a record of speed as a Markdown table', '')
    table.add_argument('record', type=Path, metavar='JSON', help='what --json wrote')
    return parser


def _subparser(kinds: argparse._SubParsersAction, kind: str, text: str, epilog: str) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        kind,
        help=text,
        description=f'{text[0].upper()}{text[1:]}.',
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if kind not in ON_RECORDS:
        parser.add_argument('--device', default='cpu', help='cpu or cuda (default: %(default)s)')
        parser.add_argument('--threads', type=int, help="CPU threads (default: PyTorch's)")
        repeats = {'scaling': 5, 'loader': 5, 'detector': 5}.get(kind, 15)
        if kind != 'memory':
            parser.add_argument('--repeats', type=int, default=repeats, help='timed turns (default: %(default)s)')
        parser.add_argument('--json', type=Path, metavar='FILE', help='record the results, after every case')
        parser.add_argument('--resume', action='store_true', help='keep the results that the file has already')
    return parser


def _add_model_options(parser: argparse.ArgumentParser, kind: str) -> None:
    sizes = {'speed': ['224']}.get(kind, ['224', '448', '896'])
    modes = {'memory': ['training']}.get(kind, ['eager'])
    parser.add_argument('--models', nargs='+', default=['xvit_s', 'xcit_s12', 'deit_s', 'swin_t'], metavar='MODEL')
    parser.add_argument('--sizes', nargs='+', default=sizes, metavar='SIZE', help='224, 800x1344 (height x width), ...')
    parser.add_argument('--batch', type=int, default=1, help='images in a call (default: %(default)s)')
    parser.add_argument('--dtype', nargs='+', default=['fp32'], metavar='DTYPE', help=', '.join(DTYPES))
    parser.add_argument('--mode', nargs='+', default=modes, metavar='MODE', help=', '.join(MODES))
    if kind == 'speed':
        parser.add_argument(
            '--compile-mode',
            default='default',
            choices=['default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs'],
            help='mode of torch.compile (default: %(default)s)',
        )


if __name__ == '__main__':
    main()
