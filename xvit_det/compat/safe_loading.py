"""Reading OpenMMLab's checkpoints without running code that a checkpoint may carry."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from xvit_det.errors import InputError


def _statistic(owner: type, name: str) -> Callable[..., Any]:
    """Stand in for ``getattr``, by which a pickled HistoryBuffer names its methods mean, min, …, and for nothing else.

    The real ``getattr`` would open the way from any object to everything that Python can reach.
    """
    from mmengine.logging import HistoryBuffer

    HistoryBuffer()  # the first one fills the table of methods
    if owner is not HistoryBuffer or name not in HistoryBuffer._statistics_methods:
        raise InputError(f'the checkpoint asks for {owner!r}.{name}, which is no plain data')
    return HistoryBuffer._statistics_methods[name]


def allow_checkpoint_types() -> None:
    """Let ``torch.load(..., weights_only=True)`` read the plain data types that mmengine's Runner saves.

    Beside tensors and plain Python values these are the logged values: a HistoryBuffer of numpy arrays. numpy 2 renamed
    the package with the functions that rebuild arrays; files of either numpy are read by both.
    """
    from mmengine.logging import HistoryBuffer

    multiarray = importlib.import_module('numpy._core.multiarray' if hasattr(np, '_core') else 'numpy.core.multiarray')
    dtypes = {type(np.dtype(code)) for code in np.typecodes['All'] if code not in 'OVMm'}
    # Named entries: OneDL's loader adds bare ones for each load and afterwards removes those, even if they were ours.
    allowed = [(kind, f'{kind.__module__}.{kind.__name__}') for kind in (HistoryBuffer, np.ndarray, np.dtype, *dtypes)]
    allowed += [(_statistic, 'builtins.getattr'), (slice, 'builtins.slice')]
    for name in ('_reconstruct', 'scalar'):
        function = getattr(multiarray, name)
        allowed += [(function, f'numpy.{core}.multiarray.{name}') for core in ('core', '_core')]
    torch.serialization.add_safe_globals(allowed)
