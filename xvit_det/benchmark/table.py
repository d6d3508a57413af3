"""``table``: a record of ``speed``, or of detectors beside each other, as a Markdown table."""

from xvit_det.benchmark.cases import MODES, PHASES, UNFUSED
from xvit_det.errors import InputError

CASE = ('size', 'batch', 'dtype', 'mode')


def markdown(content: dict) -> str:
    """The table that fits the kind of record.

    Raises:
        InputError: A record of another command, or without rows.
    """
    kind = content['header'].get('kind')
    if kind not in ('speed', 'detectors') or not content['rows']:
        raise InputError(
            f'a table is made of a record, with rows, of speed or of detector --beside, not of kind {kind!r}'
        )
    return _speed(content) if kind == 'speed' else _detectors(content['rows'])


def _detectors(rows: list[dict]) -> str:
    """A line for each detector: the time of its steps, and that in the first detector's, pair by pair."""
    found = {(row['phase'], row['model'], row['fused']): row for row in rows}
    phases = [phase for phase in reversed(PHASES) if any(row['phase'] == phase for row in rows)]
    titles = ['detector', *(title for phase in phases for title in (f'{phase} step, ms', 'ratio'))]
    lines = [f'| {" | ".join(titles)} |', '|-|' + '-:|-:|' * len(phases)]
    for model, fused in dict.fromkeys((row['model'], row['fused']) for row in rows):
        cells = [f'`{model}`' + (f', after `fuse()`, {fused}' if fused else '')]
        for phase in phases:
            row = found.get((phase, model, fused))
            cells += [f'{row["ms"]:.0f}', f'{row["ratio_to_first"]:.2f}x'] if row else ['–', '–']
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _speed(content: dict) -> str:
    """A line for each case: the first model's time, its fraction of the peaks, and the other models' times in its own.

    Ratios are the record's, pair by pair. Where the first model is fused and others cannot be, the ratio is of medians,
    and uses the others' time without fusing.
    """
    header, rows = content['header'], content['rows']
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
