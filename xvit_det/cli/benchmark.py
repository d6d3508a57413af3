"""``xvit-det benchmark``: speed, memory and scaling of backbones beside peers, and where a detector's time goes."""

import itertools
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xvit_det.benchmark.cases import DTYPES, MODES, PHASES, Case, parse_size
from xvit_det.benchmark.zoo import OURS, PEERS
from xvit_det.cli.common import OPTIONS_HELP, Arguments, add_config_arguments, check_positive, command, make_parser
from xvit_det.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

    from xvit_det.benchmark.record import Record

MODELS_HELP = f"""
models: {', '.join(OURS)}
peers (mmpretrain's): {', '.join(PEERS)}
or the path or name of any config, whose backbone is measured as configured.
"""
TITLES = {
    'speed': 'Speed: medians; ratios are of times, pair by pair',
    'memory': 'Peak memory beyond weights and images',
    'scaling': 'Cost by tokens',
}


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    check_positive(args, 'batch', 'threads', 'repeats', 'batches', 'detections')
    if args.kind in TITLES:
        _compare(args)
    elif args.kind == 'loader':
        _loader(args)
    elif args.kind == 'detector':
        _detector(args)
    else:
        _show_record(args)


# The functions below import what they need: help does not wait for torch.


def _compare(args: Namespace) -> None:
    """``speed``, ``memory``, ``scaling``."""
    cases = _cases(args)
    from xvit_det.benchmark import measure
    from xvit_det.benchmark.fits import fit_rows
    from xvit_det.benchmark.models import check_name
    from xvit_det.benchmark.screen import show_table

    for name in args.models:
        check_name(name)
    record = _open_record(args, args.kind)
    functions = {
        'speed': lambda *case: measure.measure_speed(*case, repeats=args.repeats),
        'memory': measure.measure_memory,
        'scaling': lambda *case: measure.measure_scaling(*case, repeats=args.repeats),
    }
    measure.measure(functions[args.kind], args.models, cases, record)
    show_table(TITLES[args.kind], record.rows)
    show_table('Fitted: cost grows as tokens ** exponent', fit_rows(record.rows))


def _cases(args: Namespace) -> list[Case]:
    """All that is asked for; ``memory`` measures training without and with recomputation."""
    sizes, cases = [parse_size(size) for size in args.sizes], []
    for dtype, mode, size in itertools.product(args.dtype, args.mode, sizes):
        case = Case(size, args.batch, dtype, mode, args.device, with_cp=False if args.kind == 'memory' else None)
        cases.append(case)
        if args.kind == 'memory' and case.training:
            cases.append(replace(case, with_cp=True))
    return cases


def _loader(args: Namespace) -> None:
    if min(args.workers) < 0:
        raise InputError(f'--workers must not be negative, but is {min(args.workers)}')
    from xvit_det.benchmark.loader import measure_loader, verdict
    from xvit_det.benchmark.screen import show_table
    from xvit_det.config.data_check import check_data
    from xvit_det.config.load import load_config

    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options)
    check_data(cfg, ('train',))
    record = _open_record(args, args.kind)
    options = dict(device=args.device, workers=args.workers, batches=args.batches, repeats=args.repeats)
    measure_loader(cfg, args.config, record, **options)
    show_table('The data pipeline beside the training step', record.rows)
    print(verdict([row for row in record.rows if row['config'] == args.config]))


def _detector(args: Namespace) -> None:
    """``detector``: the parts of one, or several as a whole."""
    if args.fused is not None and 'test' not in args.phases:
        raise InputError(f'--fused compares test steps, which --phases {" ".join(args.phases)} leaves out')
    cfgs = _detector_configs(args)
    from xvit_det.benchmark.screen import show_table
    from xvit_det.config.data_check import check_data

    check_data(cfgs[args.config], [PHASES[phase] for phase in args.phases])
    options = dict(phases=args.phases, device=args.device, repeats=args.repeats, checkpoint=args.checkpoint)
    fused = [] if args.fused is None else args.fused or ['fp32']
    if args.beside or fused:
        import mmdet

        from xvit_det.benchmark.detectors import measure_detectors

        settings = dict(config=args.config, checkpoint=args.checkpoint, mmdet=mmdet.__version__)
        record = _open_record(args, 'detectors', **settings)
        measure_detectors(cfgs, record, **options, detections=args.detections, fused=fused)
        show_table('Detectors in turns: medians; ratios are of times, pair by pair', record.rows)
    else:
        from xvit_det.benchmark.detector import measure_detector

        record = _open_record(args, args.kind, config=args.config)
        measure_detector(cfgs[args.config], record, **options)
        show_table('Where the time goes: medians', record.rows)


def _detector_configs(args: Namespace) -> 'dict[str, Config]':
    """The config, and those beside it, which keep their own settings and get its data."""
    if len({args.config, *args.beside}) <= len(args.beside):
        raise InputError(f'--beside {" ".join(args.beside)}: name each config once, and not {args.config} again')
    from xvit_det.config.load import load_config

    cfgs = {args.config: load_config(args.config, data_root=args.data_root, options=args.cfg_options)}
    cfgs |= {name: load_config(name) for name in args.beside}
    for name, cfg in cfgs.items():
        if (scope := cfg.get('default_scope')) != 'mmdet':
            raise InputError(f'config {name} is no MMDetection config: its default_scope is {scope!r}, not mmdet')
    return cfgs


def _show_record(args: Namespace) -> None:
    """``plot``, ``table``."""
    from xvit_det.benchmark.plot import draw
    from xvit_det.benchmark.record import read
    from xvit_det.benchmark.table import markdown

    content = read(args.record)
    if args.kind == 'table':
        return print(markdown(content))
    out = args.out or args.record.with_suffix('.png')
    draw(content, out)
    print(f'Plot: {out}')


def _open_record(args: Namespace, kind: str, **settings: object) -> 'Record':
    """Set the number of threads, which is part of the header, and open the record."""
    import torch

    from xvit_det.benchmark.record import Record, make_header

    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: PyTorch finds no CUDA device here')
    if args.resume and not args.json:
        raise InputError('--resume continues the file given by --json; give one')
    torch.set_num_threads(args.threads or torch.get_num_threads())
    return Record(make_header(kind, args.device, **settings), args.json, args.resume)


def _parser() -> ArgumentParser:
    parser = make_parser('benchmark', 'Measure speed, memory and scaling beside peers.')
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='COMMAND')
    _model_parser(kinds, 'speed', "time beside peers and the machine's peak", repeats=15, sizes=['224'])
    _model_parser(kinds, 'memory', 'peak memory, for training with and without with_cp', mode='training')
    _model_parser(kinds, 'scaling', 'time and memory by tokens, with the fitted exponent', repeats=5)
    loader = _config_parser(kinds, 'loader', "is a config's data pipeline fast enough for its model?")
    loader.add_argument('--workers', nargs='+', type=int, default=[0, 1, 2, 4], help='processes (default: 0 1 2 4)')
    loader.add_argument('--batches', type=int, default=20, help='batches to load for each (default: %(default)s)')
    _detector_parser(kinds)
    plot = _subparser(kinds, 'plot', 'plot a record of speed, memory or scaling')
    plot.add_argument('--out', type=Path, metavar='FILE', help='PNG, SVG or PDF (default: beside the JSON)')
    table = _subparser(kinds, 'table', 'print a record of speed or of detectors as a Markdown table')
    for parser_of_record in (plot, table):
        parser_of_record.add_argument('record', type=Path, metavar='JSON', help='what --json wrote')
    return parser


def _detector_parser(kinds: _SubParsersAction) -> None:
    text = "where the time of a detector's training and test step goes, or what the steps take beside other detectors"
    parser = _config_parser(kinds, 'detector', text)
    parser.add_argument('--checkpoint', help='weights; random ones find no objects, so that no masks are made')
    parser.add_argument('--phases', nargs='+', default=list(PHASES), choices=PHASES, help='default: both')
    parser.add_argument(
        '--beside',
        nargs='+',
        default=[],
        metavar='CONFIG',
        help="compare whole detectors in turns, all with the first one's images; --cfg-options are the first one's; "
        'mmdet::FOLDER/NAME.py is a config that mmdet ships',
    )
    parser.add_argument(
        '--fused',
        nargs='*',
        choices=('fp32', 'bf16'),
        metavar='DTYPE',
        help='compare the test step with that after fuse(), in fp32 (the default) or bf16, or in both',
    )
    parser.add_argument(
        '--detections',
        type=int,
        default=100,
        metavar='N',
        help='with --beside or --fused, detectors with random weights get a score threshold at which they keep this '
        'many objects in an image (default: %(default)s)',
    )


def _subparser(kinds: _SubParsersAction, kind: str, text: str, epilog: str = '') -> ArgumentParser:
    return kinds.add_parser(
        kind,
        help=text,
        description=f'{text[0].upper()}{text[1:]}.',
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _model_parser(
    kinds: _SubParsersAction,
    kind: str,
    text: str,
    repeats: int | None = None,
    sizes: Sequence[str] = ('224', '448', '896'),
    mode: str = 'eager',
) -> None:
    parser = _subparser(kinds, kind, text, MODELS_HELP)
    parser.add_argument('--models', nargs='+', default=['xvit_s', 'xcit_s12', 'deit_s', 'swin_t'], metavar='MODEL')
    parser.add_argument('--sizes', nargs='+', default=sizes, metavar='SIZE', help='224, 800x1344 (height x width), ...')
    parser.add_argument('--batch', type=int, default=1, help='images per call (default: %(default)s)')
    for option, default, choices in (('--dtype', 'fp32', DTYPES), ('--mode', mode, MODES)):
        names = ', '.join(choices)
        parser.add_argument(option, nargs='+', default=[default], choices=choices, metavar='NAME', help=names)
    _add_common_arguments(parser, repeats)


def _config_parser(kinds: _SubParsersAction, kind: str, text: str) -> ArgumentParser:
    parser = _subparser(kinds, kind, text, OPTIONS_HELP)
    add_config_arguments(parser)
    _add_common_arguments(parser, repeats=5)
    return parser


def _add_common_arguments(parser: ArgumentParser, repeats: int | None) -> None:
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'), help='default: %(default)s')
    parser.add_argument('--threads', type=int, help="CPU threads (default: PyTorch's)")
    if repeats:
        parser.add_argument('--repeats', type=int, default=repeats, help='timed turns (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='save the results, after every case')
    parser.add_argument('--resume', action='store_true', help='continue an existing file')


if __name__ == '__main__':
    main()
