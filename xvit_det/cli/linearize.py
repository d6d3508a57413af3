"""``xvit-det linearize CONFIG CHECKPOINT --mixer xnorm``: exchange the attention of a trained model, without labels."""

import shlex
from argparse import ArgumentParser
from pathlib import Path

from xvit_det.cli.common import (
    OPTIONS_HELP,
    Arguments,
    Pairs,
    add_config_arguments,
    check_positive,
    command,
    make_parser,
)
from xvit_det.errors import InputError


def _parser() -> ArgumentParser:
    parser = make_parser(
        'linearize',
        'Put another token mixer into a trained model and train it, without labels, to give the outputs of the old.',
        OPTIONS_HELP,
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or http(s) address of the trained model')
    parser.add_argument('--mixer', required=True, help='the new mixer, such as xnorm, nystrom or performer')
    parser.add_argument(
        '--mixer-options', nargs='+', action=Pairs, default=[], metavar='KEY=VALUE', help='such as attn_dims=64'
    )
    parser.add_argument('--images', metavar='DIR', help="folder of images, instead of the config's training data")
    parser.add_argument('--steps', type=int, default=1000, help='training steps block by block (default: %(default)s)')
    parser.add_argument(
        '--map-steps', type=int, default=0, help='steps after them that train all blocks together (default: none)'
    )
    parser.add_argument('--start', choices=('teacher', 'random'), default='teacher', help='weights of the new mixers')
    parser.add_argument('--work-dir', metavar='DIR', help='results (default: work_dirs/<config name>_<mixer>)')
    parser.add_argument('--resume', action='store_true', help="go on from the work folder's last checkpoint")
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16 or float16) if there is a GPU')
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    check_positive(args, 'steps')
    if args.map_steps < 0:
        raise InputError(f'--map-steps must be at least 0, not {args.map_steps}')
    # After the arguments: help does not wait for torch.
    from xvit_det.cli.linearize_run import linearize
    from xvit_det.config.load import load_config
    from xvit_det.config.options import parse_options

    options = parse_options(args.mixer_options)
    if 'type' in options:
        raise InputError(f'--mixer-options: the type is that of --mixer, {args.mixer}')
    work_dir = args.work_dir or str(Path('work_dirs', f'{Path(args.config).stem}_{args.mixer}'))
    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options, work_dir=work_dir)
    result = linearize(cfg, args.checkpoint, options, args)
    _print_errors(result.errors)
    for name, what in (
        (result.weights, 'the weights with the new mixer'),
        (result.config, 'the config that goes with them'),
        (result.picture, 'errors while training'),
    ):
        print(f'{name}  {what}')
    if result.complete:
        print(f'To test it:  {shlex.join(["xvit-det", "test", str(result.config), str(result.weights)])}')
    print(f'To train it: {shlex.join(["xvit-det", "train", str(result.config)])}')


def _print_errors(errors: dict[str, list[tuple[int, float]]]) -> None:
    """Print the first and the last errors of each block and map."""
    from rich.table import Table

    from xvit_det.cli.linearize_run import last_error
    from xvit_det.screen import screen

    table = Table('error / variance')
    for title in ('at the start', 'at the end'):
        table.add_column(title, justify='right')
    for name, points in errors.items():
        table.add_row(name, f'{points[0][1]:.4f}', f'{last_error(points):.4f}')
    screen(100).print(table)


if __name__ == '__main__':
    main()
