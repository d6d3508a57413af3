"""Fair timing on a machine with varying load: the candidates take turns."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import torch

from xvit_det.benchmark.screen import progress

Key = TypeVar('Key', bound=Hashable)
WARMUP = 2


def interleave(steps: Mapping[Key, Callable[[], object]], repeats: int, label: str = '') -> dict[Key, list[float]]:
    """Call each step in turn, ``repeats`` times over, so that a change of the machine's speed affects all alike.

    Args:
        steps: What to time; GPU work is waited for.
        repeats: Number of timed turns, after ``WARMUP`` others.
        label: Text beside the progress bar; empty: no bar.

    Returns:
        ``repeats`` durations of each step in seconds.
    """
    seconds: dict[Key, list[float]] = {name: [] for name in steps}
    for turn in progress(range(WARMUP + repeats), label):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            synchronize()
            if turn >= WARMUP:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def median_ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """The median over turns of ``times / reference``."""
    return statistics.median(t / r for t, r in zip(times, reference, strict=True))
