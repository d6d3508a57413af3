"""``speed``, ``memory`` and ``scaling``: what the compared models cost, case by case.

All models of a case are timed in turns, for ``speed`` together with large matrix products in the same dtype. So the
ratios, and the fraction of the machine's peak, hold even where the machine's speed changes meanwhile.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch

from xvit_det.analysis.counts import count_macs
from xvit_det.benchmark.cases import Case, Size
from xvit_det.benchmark.memory import peak_mib
from xvit_det.benchmark.models import NotPossible, build
from xvit_det.benchmark.record import Record
from xvit_det.benchmark.screen import progress, show_skipped
from xvit_det.benchmark.steps import build_step, matrix_products
from xvit_det.benchmark.timing import interleave, median_ratio

# A training step computes each product once in the forward pass, and once for each of its two gradients.
PRODUCTS_IN_TRAINING = 3
STRIDE = 16
Result = TypeVar('Result')


def measure(
    function: Callable[[Sequence[str], Case, Record], None],
    models: Sequence[str],
    cases: Sequence[Case],
    record: Record,
) -> None:
    """Measure the cases that the record lacks.

    Args:
        function: :func:`measure_speed`, :func:`measure_memory` or :func:`measure_scaling`, with its options bound.
        models: Names. Those that cannot run a case are noted in the header, and the case is not tried again for them.
        cases: See :class:`~xvit_det.benchmark.cases.Case`.
        record: Saved after every case.
    """
    impossible = record.header.setdefault('impossible', [])
    for case in cases:
        if all(record.find(case.keys(name)) or case.keys(name) in impossible for name in models):
            continue
        torch._dynamo.reset()  # graphs of other cases do not count towards the limit of recompilations
        function(models, case, record)
        missing = (case.keys(name) for name in models if not record.find(case.keys(name)))
        impossible += [keys for keys in missing if keys not in impossible]
        record.save()


def measure_speed(models: Sequence[str], case: Case, record: Record, *, repeats: int) -> None:
    """Time of each model, beside the first one's and the matrix products'."""
    steps = possible(models, case, lambda name: build_step(name, case))
    if not steps:
        return
    products, operations = matrix_products(case)
    times = interleave(steps | products, repeats, label=str(case))
    peaks = {name: operations / statistics.median(times[name]) for name in products}
    note_peaks(record, case, peaks)
    for name in steps:
        macs = count_macs(build(name, case.size), case.size)
        figures = speed_figures(case, times[name], times.get(models[0]), macs, max(peaks.values()))
        record.add(case.keys(name), **figures)


def speed_figures(case: Case, seconds: list[float], first: list[float] | None, macs: int, peak: float) -> dict:
    """The results of one model.

    Args:
        case: What was measured.
        seconds: Of each turn.
        first: Those of the first model in the same turns; ``None`` if it could not run.
        macs: Multiply-accumulates of one image's forward pass.
        peak: Operations per second of the fastest matrix product.
    """
    median = statistics.median(seconds)
    operations = 2 * macs * case.batch * (PRODUCTS_IN_TRAINING if case.training else 1)
    return dict(
        ms=round(median * 1e3, 4),
        ms_min=round(min(seconds) * 1e3, 4),
        ms_max=round(max(seconds) * 1e3, 4),
        images_per_s=round(case.batch / median, 3),
        gmacs=round(macs / 1e9, 4),
        peak_fraction=round(operations / median / peak, 4),
        ratio_to_first=None if first is None else round(median_ratio(seconds, first), 4),
    )


def note_peaks(record: Record, case: Case, peaks: dict[str, float]) -> None:
    """Keep the speeds of a case's matrix products in the header; ``gflops`` is the fastest."""
    keys = {key: value for key, value in case.keys('').items() if key != 'model'}
    others = [old for old in record.header.get('matrix_peaks', []) if not keys.items() <= old.items()]
    products = {name: round(peak / 1e9, 1) for name, peak in peaks.items()}
    record.header['matrix_peaks'] = [*others, keys | dict(gflops=max(products.values()), products=products)]


def measure_memory(models: Sequence[str], case: Case, record: Record) -> None:
    """Peak memory of each model."""
    for name, peak in possible(models, case, lambda name: peak_mib(name, case)).items():
        record.add(case.keys(name), tokens=token_count(case.size), peak_mib=peak)


def measure_scaling(models: Sequence[str], case: Case, record: Record, *, repeats: int) -> None:
    """Time and peak memory of each model."""
    # The timed models are freed before fresh ones are measured.
    times = interleave(possible(models, case, lambda name: build_step(name, case)), repeats, label=str(case))
    for name, peak in possible(times, case, lambda name: peak_mib(name, case)).items():
        ms = round(statistics.median(times[name]) * 1e3, 4)
        record.add(case.keys(name), tokens=token_count(case.size), ms=ms, peak_mib=peak)


def possible(models: Iterable[str], case: Case, function: Callable[[str], Result]) -> dict[str, Result]:
    """The function's result for each model; says why where there is none."""
    results = {}
    for name in progress(list(models), f'{case}: models'):
        try:
            results[name] = function(name)
        except NotPossible as reason:
            show_skipped(reason)
    return results


def token_count(size: Size) -> int:
    """Tokens of stride 16 in one image: a common measure for all models, whatever their own strides."""
    return math.prod(math.ceil(side / STRIDE) for side in size)
