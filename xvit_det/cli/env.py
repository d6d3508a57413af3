"""``xvit-det env``: what is installed and what works here, to paste into bug reports."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from xvit_det.cli.common import Arguments, make_parser

if TYPE_CHECKING:
    from xvit_det.analysis.environment import Report


def main(argv: Arguments = None) -> int:
    """Print the report; with ``--check``, return 1 unless detectors, classifiers and segmentors can be built here."""
    parser = make_parser('env', 'Report what is installed and what works here.')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        '--check', action='store_true', help='exit with 1 unless detection, classification and segmentation work'
    )
    args = parser.parse_args(argv)
    from xvit_det.analysis.environment import collect

    report = collect()
    if args.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        print_report(report)
    return int(args.check and not report.trains)


def print_report(report: 'Report') -> None:
    """Print plain aligned text, which survives being pasted anywhere."""
    for title, rows in (('system', report.system), ('modules', report.modules), ('devices', report.devices)):
        print(title)
        for name, value in rows.items():
            print(f'  {name:16} {value}')
    print('features')
    for name, verdict in report.features.items():
        print(f'  {name:16} {"yes" if verdict.works else "no ":3}  {verdict.note}')
    for warning in report.warnings:
        print(f'WARNING: {warning}')


if __name__ == '__main__':
    sys.exit(main())
