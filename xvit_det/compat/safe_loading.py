"""Reading OpenMMLab's checkpoints without running code that a checkpoint may carry."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from xvit_det.errors import InputError


def _statistic(owner: type, name: str) -> Callable[..., Any]:
    """Replace ``getattr``, with which a pickled HistoryBuffer refers to its methods mean, min, …, for these alone.

    The real ``getattr`` would give a checkpoint access to anything that Python can reach.
    """
    from mmengine.logging import HistoryBuffer

    methods = HistoryBuffer()._statistics_methods  # the first instance fills the class's table of methods
    if owner is not HistoryBuffer or name not in methods:
        raise InputError(f'the checkpoint asks for {owner!r}.{name}, which is no plain data')
    return methods[name]


def allow_checkpoint_types() -> None:
    """Let ``torch.load(..., weights_only=True)`` read the plain data types that mmengine's Runner saves.

    Besides tensors and plain Python values, these are the logged values: a HistoryBuffer of numpy arrays. numpy 2
    renamed the package of the functions that rebuild arrays; files written by either numpy are read by both.
    """
    from mmengine.logging import HistoryBuffer

    multiarray = importlib.import_module('numpy._core.multiarray' if hasattr(np, '_core') else 'numpy.core.multiarray')
    dtypes = {type(np.dtype(code)) for code in np.typecodes['All'] if code not in 'OVMm'}
    # Named entries: OneDL's loader adds unnamed ones before each load and removes them afterwards, ours included.
    kinds = (HistoryBuffer, np.ndarray, np.dtype, *dtypes)
    allowed: list[Any] = [(kind, f'{kind.__module__}.{kind.__name__}') for kind in kinds]
    allowed += [(_statistic, 'builtins.getattr'), (slice, 'builtins.slice')]
    for name in ('_reconstruct', 'scalar'):
        function = getattr(multiarray, name)
        allowed += [(function, f'numpy.{core}.multiarray.{name}') for core in ('core', '_core')]
    torch.serialization.add_safe_globals(allowed)
