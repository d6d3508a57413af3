"""``xvit-det paper-tables``: every model of "Vision Xformers" (arXiv 2107.02239), counted beside the figure printed."""

from typing import TYPE_CHECKING

from xvit_det.cli.common import Arguments, command, make_parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xvit_det.analysis.paper_tables import Row


@command
def main(argv: Arguments = None) -> None:
    """Print the tables.

    Raises:
        SystemExit: With status 1 if a count differs from the paper's figure by anything but the known misprint.
    """
    parser = make_parser('paper-tables', 'Count the models of the Vision Xformers tables beside the figures printed.')
    parser.add_argument('--markdown', action='store_true', help='print Markdown')
    args = parser.parse_args(argv)
    from xvit_det.analysis.paper_tables import rows, to_markdown

    table_rows = rows()
    if args.markdown:
        print(to_markdown(table_rows), end='')
    else:
        print_tables(table_rows)
    if any(row.differs for row in table_rows):
        raise SystemExit(1)


def print_tables(table_rows: 'Sequence[Row]') -> None:
    """Print the tables, and how many figures agree."""
    from rich.table import Table

    from xvit_det.analysis.paper_tables import COLUMNS, TEXT_COLUMNS, by_table
    from xvit_det.screen import screen

    console = screen(130)
    for title, group in by_table(table_rows):
        table = Table(title=title)
        for column in COLUMNS:
            table.add_column(column, justify='left' if column in TEXT_COLUMNS else 'right', overflow='fold')
        for row in group:
            table.add_row(*row.cells(), style={'DIFFERS': 'red', 'misprint': 'yellow'}.get(row.verdict))
        console.print(table)
    verdicts = [row.verdict for row in table_rows]
    console.print(
        f'Of {len(verdicts) - verdicts.count("–")} figures that the paper prints, {verdicts.count("equal")} agree, '
        f'{verdicts.count("misprint")} is a misprint of the paper, {verdicts.count("DIFFERS")} differ.'
    )


if __name__ == '__main__':
    main()
