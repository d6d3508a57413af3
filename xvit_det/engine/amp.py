"""Mixed precision where the machine supports it, full precision elsewhere, from the same config."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import is_cuda_available, is_mlu_available, is_musa_available, is_npu_available
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS


def amp_available() -> bool:
    """Whether mmengine's ``AmpOptimWrapper`` accepts this machine; it refuses a CPU."""
    return is_cuda_available() or is_npu_available() or is_mlu_available() or is_musa_available()


def amp_dtype() -> str:
    """``'bfloat16'``, which has float32's range, if the GPU supports it natively, else ``'float16'``."""
    native = is_cuda_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return 'bfloat16' if native else 'float16'


@OPTIM_WRAPPERS.register_module()
def AutoAmpOptimWrapper(dtype: str | None = None, loss_scale: Any = None, **kwargs: Any) -> OptimWrapper:
    """Build an ``AmpOptimWrapper`` on an accelerator, or on a CPU an ``OptimWrapper``, with a line in the log.

    A function that configs name like the classes it selects from.

    Args:
        dtype: ``'bfloat16'`` or ``'float16'``; by default the result of :func:`amp_dtype`.
        loss_scale: As in ``AmpOptimWrapper``; by default dynamic for float16 and 1 for bfloat16, whose gradients
            need no scaling. (A scaler of 1 instead of none, so that checkpoints resume with either dtype.)
        **kwargs: Arguments of ``OptimWrapper``: ``optimizer``, ``accumulative_counts``, ``clip_grad``.
    """
    if not amp_available():
        print_log('No GPU here: training in float32 instead of mixed precision.', logger='current')
        return OptimWrapper(**kwargs)
    dtype = dtype or amp_dtype()
    if loss_scale is None:
        loss_scale = 1.0 if dtype == 'bfloat16' else 'dynamic'
    return AmpOptimWrapper(dtype=dtype, loss_scale=loss_scale, **kwargs)


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """The forward pass in bfloat16 on any device; :mod:`xvit_det.kernels.bfloat16_trial` tells whether a CPU gains."""

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
