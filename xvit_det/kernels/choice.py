"""How a fast path is chosen: by a trial on the machine at hand, or by an environment variable."""

import os
import time
from collections.abc import Callable, Sequence

from xvit_det.errors import InputError

CALLS = 7


def measured_speedup(slow: Callable[[], object], fast: Callable[[], object]) -> float:
    """How many times as fast the second function is as the first.

    They take turns, and the best time of each counts: other work on the machine can only add to it.
    """

    def seconds(function: Callable[[], object]) -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    times = [(seconds(slow), seconds(fast)) for _ in range(CALLS + 1)]
    return min(pair[0] for pair in times) / min(pair[1] for pair in times)


def asked(variable: str, choices: Sequence[str]) -> str:
    """What an environment variable asks for, by default the first of the choices.

    Raises:
        InputError: It is none of them.
    """
    name = os.environ.get(variable, choices[0])
    if name not in choices:
        raise InputError(f'{variable} is {name!r}, but must be one of {", ".join(choices)}')
    return name
