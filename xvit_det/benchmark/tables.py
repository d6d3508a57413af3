"""``table``: a record of speed as a Markdown table, for a README."""

import argparse

from xvit_det.benchmark.record import read
from xvit_det.benchmark.speed import KEYS
from xvit_det.benchmark.steps import MODES
from xvit_det.errors import InputError

CASE = KEYS[1:]  # without the model
# A peer cannot be fused: what takes its place is its time without.
UNFUSED = {'fused': 'eager', 'fused-compiled': 'compiled'}


def run(args: argparse.Namespace) -> None:
    """The command."""
    print(markdown(read(args.record)))


def markdown(content: dict) -> str:
    """A row for each case: the first model's time and its shares of the peaks, and how many times as long the others
    take.

    Ratios are those of the record, pair by pair; only where the first model is fused and others cannot be, a ratio is
    of medians, and of the others' time without.

    Raises:
        InputError: A record of another command, or without rows.
    """
    if content['header'].get('kind') != 'speed' or not content['rows']:
        raise InputError(
            f'a table is made of a record of speed with rows, not of kind {content["header"].get("kind")!r}'
        )
    first, *others = dict.fromkeys(row['model'] for row in content['rows'])
    rows = {(row['model'], *(row[key] for key in CASE)): row for row in content['rows']}
    peaks = {tuple(peak[key] for key in CASE): peak for peak in content['header']['matrix_peaks']}
    titles = (f'{first}, ms', 'of the peak', 'of `torch.mm`', *(f'{name} takes' for name in others))
    lines = [f'| images | dtype, mode | {" | ".join(titles)} |', '|-|-|' + '-:|' * len(titles)]
    for case in sorted(peaks, key=_order):
        row = rows.get((first, *case))
        if row is None:
            continue
        size, batch, dtype, mode = case
        peak = peaks[case]
        share = row['peak_fraction'] * peak['gflops'] / peak['products']['torch.mm']
        ratios = [_ratio(rows, (name, *case), row) for name in others]
        cells = (f'{row["ms"]:.0f}', f'{row["peak_fraction"]:.0%}', f'{share:.0%}', *ratios)
        lines.append(f'| {size}, batch {batch} | {dtype}, {mode} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _order(case: tuple) -> tuple:
    size, _, dtype, mode = case
    return dtype != 'fp32', MODES.index(UNFUSED.get(mode, mode)), mode in UNFUSED, int(size.split('x')[0])


def _ratio(rows: dict, key: tuple, first: dict) -> str:
    if key in rows:
        return f'{rows[key]["ratio_to_first"]:.2f}x'
    *rest, mode = key
    other = rows.get((*rest, UNFUSED.get(mode)))
    return f'{other["ms"] / first["ms"]:.2f}x' if other else '–'
