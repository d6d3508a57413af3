"""Timing several things fairly on a machine that may be doing something else meanwhile: in turns."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def interleave(
    steps: Sequence[Callable[[], None]],
    repeats: int,
    *,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
    tick: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """Call each step in turn, ``repeats`` times over, so that whatever slows the machine slows all of them alike.

    Args:
        steps: What to time. Work that they leave to a GPU is waited for.
        repeats: Number of timed turns.
        warmup: Number of turns before those.
        clock: Seconds.
        tick: Called after each call, for a progress bar.

    Returns:
        The seconds of each step: one list of ``repeats`` for each.
    """
    seconds: list[list[float]] = [[] for _ in steps]
    for turn in range(-warmup, repeats):
        for times, step in zip(seconds, steps, strict=True):
            start = clock()
            step()
            synchronize()
            if turn >= 0:
                times.append(clock() - start)
            tick()
    return seconds


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """How many times as long, pair by pair of the same turn: the median."""
    return statistics.median(t / r for t, r in zip(times, reference, strict=True))
