"""Peak memory of a call: what it takes at its highest beyond what was there before.

On a GPU PyTorch's allocator knows. On the CPU it is the process's resident memory, which only grows in a process that
has done other things before; so each case is measured in a fresh one.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from xvit_det.benchmark.models import NotPossible, build
from xvit_det.benchmark.steps import FAILURES, Case, failure, make_step
from xvit_det.errors import InputError

MIB = 2**20
WARMUP_SIDE = 128
CLEAR_PEAK = Path('/proc/self/clear_refs')
Result = TypeVar('Result')


def peak_bytes(step: Callable[[], None], device: str = 'cpu') -> int:
    """Memory that ``step()`` takes at its highest beyond what is taken now; on the CPU, only Linux says."""
    if device != 'cpu':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    CLEAR_PEAK.write_text('5')  # forgets the peak of importing and building
    before = _resident('VmRSS')
    step()
    return _resident('VmHWM') - before


def _resident(key: str) -> int:
    """This process's memory in bytes, ``VmRSS`` now or ``VmHWM`` at its peak, as Linux counts it."""
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def run_apart(function: Callable[..., Result], *arguments: object) -> Result:
    """``function(*arguments)`` in a fresh process, which must be able to import it.

    Raises:
        NotPossible: The process was killed, most likely for lack of memory.
    """
    # With a fixed threshold, glibc gives the memory of freed tensors back at once, so that the peak is what is needed.
    with (
        _environment(MALLOC_MMAP_THRESHOLD_='65536'),
        ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool,
    ):
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise NotPossible('the process was killed, most likely for lack of memory') from error


@contextlib.contextmanager
def _environment(**variables: str):
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def peak_mib(name: str, case: Case, with_cp: bool, threads: int) -> float:
    """Peak memory of a case in MiB, beyond weights and images.

    Training takes two steps, the second of which has the optimiser's moments and the gradients too.

    Raises:
        NotPossible: The case does not exist for this model, or does not fit into the memory.
        InputError: On the CPU of a system that is not Linux.
    """
    if case.device == 'cpu' and not CLEAR_PEAK.exists():
        raise InputError(f'the peak memory of a process is read from {CLEAR_PEAK}, which only Linux has; use a GPU')
    if case.device == 'cpu':
        return run_apart(_measure, name, case, with_cp, threads)
    return _measure(name, case, with_cp, threads)


def _measure(name: str, case: Case, with_cp: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    model: nn.Module = build(name, case.size, **(dict(with_cp=True) if with_cp else {}))
    step = make_step(model, case)
    # A first call loads code, some 15 MiB, which is no matter of the model's.
    with contextlib.suppress(*FAILURES), torch.no_grad():
        model(torch.randn(1, 3, WARMUP_SIDE, WARMUP_SIDE, device=case.device, dtype=next(model.parameters()).dtype))

    def call() -> None:
        step()
        if case.training:
            step()

    try:
        return peak_bytes(call, case.device) / MIB
    except FAILURES as error:
        raise failure(name, case, error) from error
