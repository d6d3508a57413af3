"""``xvit-det ablate CONFIG CHECKPOINT``: what each block's attention, local interaction and MLP are worth."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xvit_det.cli.common import OPTIONS_HELP, Arguments, add_config_arguments, check_positive, command, make_parser

if TYPE_CHECKING:
    from xvit_det.visualization.branches import Grid

T = TypeVar('T')

REPLACEMENTS = {'mean': 'its mean', 'zero': 'zero'}


def _parser() -> ArgumentParser:
    parser = make_parser(
        'ablate',
        'Evaluate a checkpoint with the attention (or other token mixer), the local patch interaction and the MLP of\n'
        'each block replaced by a constant, and measure what each adds to the residual stream.',
        OPTIONS_HELP,
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or http(s) address')
    parser.add_argument(
        '--by',
        choices=REPLACEMENTS,
        default='mean',
        help='what replaces a branch: its mean over the same images, or zero (default: %(default)s)',
    )
    parser.add_argument('--images', type=int, help='use this many of the test images, evenly spaced (default: all)')
    parser.add_argument('--work-dir', metavar='DIR', help='logs and results (default: work_dirs/<config name>)')
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    check_positive(args, 'images')
    # After the arguments: help does not wait for torch.
    from xvit_det.cli.ablate_evaluations import ablate
    from xvit_det.config.data_check import check_test_data
    from xvit_det.config.load import load_config
    from xvit_det.visualization.branches import draw_branches

    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options, work_dir=args.work_dir)
    check_test_data(cfg)
    record = ablate(cfg, args.checkpoint, args.by, args.images)

    json_file, png_file = (Path(cfg.work_dir, f'ablate_{args.by}.{ending}') for ending in ('json', 'png'))
    json_file.write_text(json.dumps(record, indent=2) + '\n')
    columns = dict(mixer=' / '.join(record['mixers']), local='local interaction', mlp='MLP')
    columns = {kind: columns[kind] for kind in record['kinds']}
    grids = _grids(record, columns)
    scores = ', '.join(f'{name} {score:.1f}' for name, score in record['scores'].items())
    title = f'{Path(record["config"]).stem}, {record["images"]} images: {scores}'
    draw_branches(png_file, grids, [*columns.values()], title)
    print(f'\n{title}')
    for grid in grids:
        _print(grid, [*columns.values()])
    print(f'Metrics: {json_file}\nFigure: {png_file}')


def _grids(record: dict[str, Any], columns: dict[str, str]) -> list['Grid']:
    """The scores with one branch replaced, in the last row in all blocks, and the shares of the residual stream."""
    from xvit_det.visualization.branches import Grid

    every = {f'all.{kind}': figures for kind, figures in record['kinds'].items()}
    grids = []
    for score, before in record['scores'].items():
        after = {name: figures['scores'][score] for name, figures in (record['branches'] | every).items()}
        changes = {name: value - before for name, value in after.items()}
        texts = {name: f'{value:.1f} ({round(changes[name], 1) + 0.0:+.1f})' for name, value in after.items()}
        title = f'{score} (change), a branch replaced by {REPLACEMENTS[record["replaced_by"]]}'
        grids.append(Grid(title, _by_block(changes, columns), _by_block(texts, columns), is_change=True))
    shares = {name: 100 * figures['share'] for name, figures in record['branches'].items()}
    varying = {name: 100 * figures['varying_share'] for name, figures in record['branches'].items()}
    texts = {name: f'{share:.1f} ({varying[name]:.1f})' for name, share in shares.items()}
    title = 'share of the residual stream (without its mean), %'
    return [*grids, Grid(title, _by_block(shares, columns), _by_block(texts, columns), is_change=False)]


def _by_block(figures: dict[str, T], columns: dict[str, str]) -> dict[str, dict[str, T]]:
    """Figures of branches by block and name of the column."""
    blocks: dict[str, dict[str, T]] = {}
    for name, figure in figures.items():
        block, _, kind = name.rpartition('.')
        blocks.setdefault(block, {})[columns[kind]] = figure
    return blocks


def _print(grid: 'Grid', columns: list[str]) -> None:
    from rich.table import Table

    from xvit_det.screen import screen

    table = Table('block')
    for name in columns:
        table.add_column(name, justify='right')
    for block, row in grid.texts.items():
        if block == 'all':
            table.add_section()
        table.add_row(block, *(row.get(name, '') for name in columns))
    print(f'\n{grid.title}')
    screen(100).print(table)


if __name__ == '__main__':
    main()
