"""What trials of a fast path on the machine at hand have in common."""

import os
import statistics
import time
from collections.abc import Callable, Sequence

from xvit_det.errors import InputError

PAIRS = 7


def median_speedup(slow: Callable[[], object], fast: Callable[[], object]) -> float:
    """How many times as fast the second is as the first: the median of some pairs of calls, after one to warm up."""

    def seconds(function: Callable[[], object]) -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    return statistics.median([seconds(slow) / seconds(fast) for _ in range(PAIRS + 1)][1:])


def asked(variable: str, choices: Sequence[str]) -> str:
    """What an environment variable asks for, by default the first of the choices.

    Raises:
        InputError: It is none of them.
    """
    name = os.environ.get(variable, choices[0])
    if name not in choices:
        raise InputError(f'{variable} is {name!r}, but must be one of {", ".join(choices)}')
    return name
