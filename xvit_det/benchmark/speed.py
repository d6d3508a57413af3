"""``speed``: milliseconds of a call or training step, beside the first model's and the machine's matrix products.

All models of a case run in turns, together with large matrix products in the same dtype. So the ratios and the share
of the machine's peak, the fastest of these products, hold even where the machine's speed changes meanwhile.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable

import torch

from xvit_det.analysis.counts import count_macs
from xvit_det.benchmark.models import NotPossible, build
from xvit_det.benchmark.record import Record, open_record
from xvit_det.benchmark.screen import Bar, show_table
from xvit_det.benchmark.steps import Case, Step, build_step, matrix_products
from xvit_det.benchmark.timing import interleave, ratio

KEYS = ('model', 'size', 'batch', 'dtype', 'mode')
COLUMNS = (*KEYS, 'ms', 'ms_min', 'ms_max', 'images_per_s', 'gmacs', 'peak_fraction', 'ratio_to_first')
WARMUP = 2
# A training step computes each product once forward, and once for each of its two gradients.
PRODUCTS_IN_TRAINING = 3


def run(args: argparse.Namespace) -> None:
    """The command."""
    cases = cases_of(args)
    record = open_record(args, compile_mode=args.compile_mode)
    turns = (len(args.models) + 2) * (args.repeats + WARMUP)
    with Bar(len(cases) * turns) as bar:
        for number, case in enumerate(cases):
            bar.describe(str(case))
            if not all(record.find(case.keys(name)) or case.keys(name) in impossible(record) for name in args.models):
                measure(args, case, record, bar)
            bar.advance_to((number + 1) * turns)
    show(record.rows)


def impossible(record: Record) -> list[dict]:
    """The cases that were tried in vain and are not tried again."""
    return record.header.get('impossible', [])


def cases_of(args: argparse.Namespace) -> list[Case]:
    """All that the options ask for, but for the models."""
    return [
        Case(size, args.batch, dtype, mode, args.device)
        for dtype, mode, size in itertools.product(args.dtype, args.mode, args.sizes)
    ]


def measure(args: argparse.Namespace, case: Case, record: Record, bar: Bar) -> None:
    """Measure all models in one case, and save."""
    torch._dynamo.reset()  # graphs of other cases do not count towards the limit of recompilations
    steps = possible_steps(args.models, case, bar.skipped, args.compile_mode)
    if not steps:
        return
    products, operations = matrix_products(case)
    seconds = interleave([*steps.values(), *products.values()], args.repeats, warmup=WARMUP, tick=bar.tick)
    times = dict(zip([*steps, *products], seconds, strict=True))
    peaks = {name: operations / statistics.median(times[name]) for name in products}
    first = times.get(args.models[0])
    rows = [speed_row(name, case, times[name], first, macs_of(name, case), max(peaks.values())) for name in steps]
    note_peaks(record, case, peaks)
    missing = [case.keys(name) for name in args.models if name not in steps]
    record.header['impossible'] = [*(old for old in impossible(record) if old not in missing), *missing]
    record.add(rows, KEYS)


def possible_steps(
    names: list[str], case: Case, skipped: Callable[[object], None], compile_mode: str = 'default'
) -> dict[str, Step]:
    """The step of each model, warm; reasons why there is none go to ``skipped``."""
    steps = {}
    for name in names:
        try:
            steps[name] = build_step(name, case, compile_mode)
        except NotPossible as reason:
            skipped(reason)
    return steps


def macs_of(name: str, case: Case) -> int:
    """Multiply-accumulates of the model for one image of the case's size, forward."""
    return count_macs(build(name, case.size), case.size)


def speed_row(name: str, case: Case, seconds: list[float], first: list[float] | None, macs: int, peak: float) -> dict:
    """One row of the result.

    Args:
        name: The model's.
        case: What was measured.
        seconds: Of each turn.
        first: Those of the first model in the same turns; ``None`` if it could not run.
        macs: Multiply-accumulates of one image, forward.
        peak: Operations in a second of the fastest matrix product.
    """
    median = statistics.median(seconds)
    operations = 2 * macs * case.batch * (PRODUCTS_IN_TRAINING if case.training else 1)
    return case.keys(name) | dict(
        ms=round(median * 1e3, 4),
        ms_min=round(min(seconds) * 1e3, 4),
        ms_max=round(max(seconds) * 1e3, 4),
        images_per_s=round(case.batch / median, 3),
        gmacs=round(macs / 1e9, 4),
        peak_fraction=round(operations / median / peak, 4),
        ratio_to_first=None if first is None else round(ratio(seconds, first), 4),
    )


def note_peaks(record: Record, case: Case, peaks: dict[str, float]) -> None:
    """Keep the matrix products' speeds of this case in the header, ``gflops`` being the fastest's."""
    keys = {key: value for key, value in case.keys('').items() if key != 'model'}
    others = [old for old in record.header.get('matrix_peaks', []) if not keys.items() <= old.items()]
    products = {name: round(peak / 1e9, 1) for name, peak in peaks.items()}
    record.header['matrix_peaks'] = [*others, keys | dict(gflops=max(products.values()), products=products)]


def show(rows: list[dict]) -> None:
    """Print the rows as a table."""
    columns = (*KEYS, 'ms', 'min', 'max', 'images/s', 'GMAC', 'of peak', 'to first')
    cells = [
        [
            *(row[key] for key in KEYS),
            *(f'{row[key]:.2f}' for key in ('ms', 'ms_min', 'ms_max')),
            f'{row["images_per_s"]:.1f}',
            f'{row["gmacs"]:.2f}',
            f'{row["peak_fraction"]:.0%}',
            None if row['ratio_to_first'] is None else f'{row["ratio_to_first"]:.2f} x',
        ]
        for row in rows
    ]
    show_table('Speed: medians; ratios are of times, pair by pair', columns, cells)
