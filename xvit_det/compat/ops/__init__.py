"""mmcv's ops on top of torchvision and torch, with the names and calling conventions of mmcv's C++ interface."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Return half and bfloat16 tensors as float32: not every op exists for them on every device."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def missing(op: str) -> NotImplementedError:
    """Return the error for an op of mmcv's that neither torch nor torchvision has."""
    return NotImplementedError(
        f"mmcv's op {op} exists only compiled, and this mmcv has no compiled ops: run `make setup-compiled`, or, with "
        'a C++ compiler, `pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation onedl-mmcv` '
        "(among OneDL's packages, not the official ones)."
    )
