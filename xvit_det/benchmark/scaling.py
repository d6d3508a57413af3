"""``memory`` and ``scaling``: what a model costs as the image grows, and the exponent of its growth."""

import argparse
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from xvit_det.benchmark.memory import peak_mib
from xvit_det.benchmark.models import NotPossible, Size
from xvit_det.benchmark.record import Record, open_record
from xvit_det.benchmark.screen import Bar, show_table
from xvit_det.benchmark.speed import KEYS, WARMUP, cases_of, possible_steps
from xvit_det.benchmark.steps import Case
from xvit_det.benchmark.timing import interleave

STRIDE = 16
MEMORY_KEYS = (*KEYS, 'with_cp')


@dataclass(frozen=True)
class Fit:
    """``cost = factor · tokens ** exponent``; ``r2`` is the share of the logarithms' variance that it explains."""

    exponent: float
    factor: float
    r2: float


def fit_power(tokens: Sequence[float], costs: Sequence[float]) -> Fit:
    """Least squares on logarithms.

    Args:
        tokens, costs: At least two positive values each, not all tokens equal.
    """
    x, y = [math.log(value) for value in tokens], [math.log(value) for value in costs]
    exponent, intercept = statistics.linear_regression(x, y)
    mean = statistics.fmean(y)
    spread = sum((value - mean) ** 2 for value in y)
    error = sum((value - intercept - exponent * at) ** 2 for at, value in zip(x, y, strict=True))
    return Fit(exponent, math.exp(intercept), 1 - error / spread if spread else 1.0)


def token_count(size: Size) -> int:
    """Tokens of stride 16 in one image, by which all models are compared, whatever their own strides."""
    return math.prod(math.ceil(side / STRIDE) for side in size)


def run_memory(args: argparse.Namespace) -> None:
    """The command ``memory``: peak of a call or training step, with and without recomputation."""
    cases = cases_of(args)
    record = open_record(args)
    with Bar(len(cases) * len(args.models) * 2) as bar:
        for case, name, with_cp in itertools.product(cases, args.models, (False, True)):
            bar.describe(f'{name} {case}')
            if case.training or not with_cp:  # inference keeps nothing that could be computed anew
                _measure_memory(name, case, with_cp, args.threads, record, bar)
            bar.tick()
    columns = (*KEYS, 'with_cp', 'tokens', 'MiB')
    keys = (*KEYS, 'with_cp', 'tokens', 'peak_mib')
    show_table('Peak memory beyond weights and images', columns, [[row[key] for key in keys] for row in record.rows])
    show_fits(record.rows, ('peak_mib',))


def _measure_memory(name: str, case: Case, with_cp: bool, threads: int, record: Record, bar: Bar) -> None:
    keys = case.keys(name) | dict(with_cp=with_cp)
    if record.find(keys):
        return
    try:
        peak = round(peak_mib(name, case, with_cp, threads), 2)
    except NotPossible as reason:
        bar.skipped(reason)
    else:
        record.add([keys | dict(tokens=token_count(case.size), peak_mib=peak)], MEMORY_KEYS)


def run_scaling(args: argparse.Namespace) -> None:
    """The command ``scaling``: time and memory against the number of tokens."""
    cases = cases_of(args)
    record = open_record(args)
    turns = len(args.models) * (args.repeats + WARMUP)
    with Bar(len(cases) * turns) as bar:
        for number, case in enumerate(cases):
            bar.describe(str(case))
            if not all(record.find(case.keys(name)) for name in args.models):
                _measure_scaling(args, case, record, bar)
            bar.advance_to((number + 1) * turns)
    keys = (*KEYS, 'tokens', 'ms', 'peak_mib')
    show_table('Cost by tokens', (*KEYS, 'tokens', 'ms', 'MiB'), [[row[key] for key in keys] for row in record.rows])
    show_fits(record.rows, ('ms', 'peak_mib'))


def _measure_scaling(args: argparse.Namespace, case: Case, record: Record, bar: Bar) -> None:
    steps = possible_steps(args.models, case, bar.skipped)
    seconds = interleave(list(steps.values()), args.repeats, warmup=WARMUP, tick=bar.tick)
    names = list(steps)
    del steps  # the models' memory, before that of fresh ones is measured
    for name, times in zip(names, seconds, strict=True):
        try:
            peak = round(peak_mib(name, case, False, args.threads), 2)
        except NotPossible as reason:
            bar.skipped(reason)
            continue
        ms = round(statistics.median(times) * 1e3, 4)
        record.add([case.keys(name) | dict(tokens=token_count(case.size), ms=ms, peak_mib=peak)], KEYS)


def curves(rows: list[dict], quantity: str) -> dict[tuple, list[tuple[int, float]]]:
    """The points (tokens, cost) of each model in each dtype, mode and with or without recomputation, by tokens."""
    found: dict[tuple, list[tuple[int, float]]] = {}
    for row in rows:
        name = (row['model'], row['batch'], row['dtype'], row['mode'], row.get('with_cp', False))
        if row[quantity] > 0:  # tiny models fit into memory that the process had already
            found.setdefault(name, []).append((row['tokens'], row[quantity]))
    return {name: sorted(points) for name, points in found.items()}


def fits(rows: list[dict], quantity: str) -> dict[tuple, Fit]:
    """The fit of each of :func:`curves` that has three sizes or more; two always fit."""
    return {
        name: fit_power(*zip(*points, strict=True))
        for name, points in curves(rows, quantity).items()
        if len({tokens for tokens, _ in points}) >= 3
    }


def show_fits(rows: list[dict], quantities: Sequence[str]) -> None:
    """Print the exponents, if there are sizes enough."""
    cells = [
        [name[0], *name[1:], quantity, f'{fit.exponent:.3f}', f'{fit.r2:.4f}']
        for quantity in quantities
        for name, fit in fits(rows, quantity).items()
    ]
    if cells:
        columns = ('model', 'batch', 'dtype', 'mode', 'with_cp', 'quantity', 'exponent', 'R²')
        show_table('Fitted: cost grows as tokens to the power of the exponent', columns, cells)
