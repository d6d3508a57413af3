"""Reading OpenMMLab's checkpoints without running code that a checkpoint may carry."""

import collections
import importlib
import os

import numpy as np
import torch

# Beside tensors and plain Python values, mmengine's checkpoints hold the history of logged values: a HistoryBuffer of
# numpy arrays. numpy 2 renamed its private package; files of either numpy are read by both.
_NUMPY_FUNCTIONS = ('_reconstruct', 'scalar')


def allow_checkpoint_types() -> None:
    """Let ``torch.load(..., weights_only=True)`` read the plain data types that mmengine's Runner saves."""
    from mmengine.logging import HistoryBuffer

    multiarray = importlib.import_module('numpy._core.multiarray' if hasattr(np, '_core') else 'numpy.core.multiarray')
    dtypes = {type(np.dtype(code)) for code in np.typecodes['All'] if code not in 'OVMm'}
    allowed = [HistoryBuffer, np.ndarray, np.dtype, *sorted(dtypes, key=str), collections.deque, slice]
    for name in _NUMPY_FUNCTIONS:
        function = getattr(multiarray, name)
        allowed += [(function, f'numpy.{core}.multiarray.{name}') for core in ('core', '_core')]
    torch.serialization.add_safe_globals(allowed)


def refuse_unsafe_checkpoints() -> None:
    """Make every ``torch.load`` of this process read data only, even where a library asks for more.

    OneDL's mmengine retries a checkpoint that cannot be read safely with code execution allowed. The commands call
    this, so that their checkpoints are data in either family; a library should not decide it for its user.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
