"""``xvit-det models [PATTERN]``: the shipped models with their parameters and MACs."""

from xvit_det.cli.common import Arguments, command, make_parser
from xvit_det.errors import InputError


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    parser = make_parser('models', 'List the shipped models with their parameters and MACs.')
    parser.add_argument('pattern', nargs='?', default='*', help="names to list, such as '*xvit_s*' (default: all)")
    parser.add_argument('--names', action='store_true', help='print the names alone, without counting')
    args = parser.parse_args(argv)
    from xvit_det.hub import list_models

    names = list_models(args.pattern)
    if not names:
        raise InputError(f'no model matches {args.pattern!r}; `xvit-det models --names` lists all of them')
    if args.names:
        print('\n'.join(names))
        return
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from xvit_det.analysis.models import model_row
    from xvit_det.screen import screen

    table = Table('model', 'backbone', caption='GMAC: 10⁹ multiply-accumulates for one image of this size')
    for column in ('parameters', 'of the backbone', 'GMAC', 'of the backbone', 'at'):
        table.add_column(column, justify='right')
    for name in track(names, 'counting', console=Console(stderr=True), transient=True):
        row = model_row(name)
        table.add_row(
            row.name,
            row.backbone,
            f'{row.parameters:,}',
            f'{row.backbone_parameters:,}',
            '–' if row.model_macs is None else f'{row.model_macs / 1e9:.2f}',
            f'{row.macs / 1e9:.2f}',
            'x'.join(map(str, row.size)),
        )
    screen(120).print(table)


if __name__ == '__main__':
    main()
