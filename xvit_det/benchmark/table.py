"""``table``: a record of ``speed`` as a Markdown table."""

from xvit_det.benchmark.cases import MODES, UNFUSED
from xvit_det.errors import InputError

CASE = ('size', 'batch', 'dtype', 'mode')


def markdown(content: dict) -> str:
    """A line for each case: the first model's time, its fraction of the peaks, and the other models' times in its own.

    Ratios are the record's, pair by pair. Where the first model is fused and others cannot be, the ratio is of medians,
    and uses the others' time without fusing.

    Raises:
        InputError: A record of another command, or without rows.
    """
    header, rows = content['header'], content['rows']
    if header.get('kind') != 'speed' or not rows:
        raise InputError(f'a table is made of a record of speed with rows, not of kind {header.get("kind")!r}')
    first, *others = dict.fromkeys(row['model'] for row in rows)
    found = {(row['model'], *(row[key] for key in CASE)): row for row in rows}
    peaks = {tuple(peak[key] for key in CASE): peak for peak in header['matrix_peaks']}
    titles = (f'{first}, ms', 'of the peak', 'of `torch.mm`', *(f'{name} takes' for name in others))
    lines = [f'| images | dtype, mode | {" | ".join(titles)} |', '|-|-|' + '-:|' * len(titles)]
    for case in sorted(peaks, key=_order):
        row = found.get((first, *case))
        if row is None:
            continue
        size, batch, dtype, mode = case
        peak = peaks[case]
        share = row['peak_fraction'] * peak['gflops'] / peak['products']['torch.mm']
        ratios = [_ratio(found, (name, *case), row) for name in others]
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
