"""Peak memory of a call, beyond what was allocated before it.

On a GPU PyTorch's allocator reports it. On the CPU it is the process's resident memory, each case measured in a fresh
process: one that has worked before has memory at hand that would not be counted.
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

from xvit_det.benchmark.cases import Case
from xvit_det.benchmark.models import NotPossible
from xvit_det.benchmark.steps import build_model, failures_as_reasons, make_step
from xvit_det.errors import InputError

MIB = 2**20
WARMUP_SIDE = 128
CLEAR_PEAK = Path('/proc/self/clear_refs')
MALLOC_THRESHOLD = 'MALLOC_MMAP_THRESHOLD_'
Result = TypeVar('Result')


def peak_bytes(step: Callable[[], object], device: str = 'cpu') -> int:
    """Highest memory use during ``step()`` beyond what is in use now; on the CPU, Linux only."""
    if device != 'cpu':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    CLEAR_PEAK.write_text('5')  # resets the peak to the present use
    before = _resident('VmRSS')
    step()
    return _resident('VmHWM') - before


def _resident(key: str) -> int:
    """This process's resident memory in bytes: ``VmRSS`` now, ``VmHWM`` at its peak."""
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def run_apart(function: Callable[..., Result], *arguments: object) -> Result:
    """``function(*arguments)`` in a fresh process, which must be able to import it.

    Raises:
        NotPossible: The process was killed, most likely for lack of memory.
    """
    # With a fixed threshold glibc returns the memory of freed tensors at once, so that the peak counts live ones only.
    # It reads the variable when a process starts.
    os.environ[MALLOC_THRESHOLD] = '65536'
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool as error:
        raise NotPossible('the process was killed, most likely for lack of memory') from error
    finally:
        del os.environ[MALLOC_THRESHOLD]


def peak_mib(name: str, case: Case) -> float:
    """Peak memory of a case in MiB, beyond weights and images.

    Training takes two steps, of which the second has the gradients and the optimizer's moments as well.

    Raises:
        NotPossible: The case does not exist for this model, or does not fit into memory.
        InputError: On the CPU of a system other than Linux.
    """
    if case.device != 'cpu':
        return _measure(name, case, torch.get_num_threads())
    if not CLEAR_PEAK.exists():
        raise InputError(f'peak memory on the CPU is read from {CLEAR_PEAK}, which only Linux has; use a GPU')
    return run_apart(_measure, name, case, torch.get_num_threads())


def _measure(name: str, case: Case, threads: int) -> float:
    torch.set_num_threads(threads)
    model = build_model(name, case)
    step = make_step(model, case)
    # The first call loads about 15 MiB of code, which does not count as the model's memory.
    with contextlib.suppress(RuntimeError, ValueError), torch.no_grad():
        model(torch.randn(1, 3, WARMUP_SIDE, WARMUP_SIDE, device=case.device, dtype=next(model.parameters()).dtype))

    def call() -> None:
        step()
        if case.training:
            step()

    with failures_as_reasons(name, case):
        return round(peak_bytes(call, case.device) / MIB, 2)
