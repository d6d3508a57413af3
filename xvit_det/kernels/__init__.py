"""Triton kernels for inference on an NVIDIA GPU, and the choice between them and PyTorch, which is the reference.

They are used wherever they can be (see :func:`usable`); ``XVIT_DET_TRITON=0`` switches them off. With
``TRITON_INTERPRET=1`` they run on a CPU, in Triton's interpreter, for tests and for debugging.
"""

import functools
import os
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.nn import Parameter

SWITCHED_ON = os.environ.get('XVIT_DET_TRITON', '1') != '0'
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
_DEVICE = 'cpu' if INTERPRETED else 'cuda'
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)  # torch 2.6 has the latter only


def usable(*tensors: Tensor | None) -> bool:
    """Whether kernels can take these tensors: on the GPU, in a dtype they know, and with no gradient to record.

    Not while a model is exported either: what is exported is to run where there is no Triton.
    """
    given = [x for x in tensors if x is not None]
    return (
        SWITCHED_ON
        and all(x.device.type == _DEVICE and x.dtype in _DTYPES and _has_numbers_only(x) for x in given)
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in given))
        and not is_exporting()
        and triton_works(given[0].get_device())
    )


def _has_numbers_only(x: Tensor) -> bool:
    """Not a tensor that stands for another one, nor one with the tangent of forward-mode differentiation."""
    if torch.compiler.is_compiling():
        return True
    return type(x) in (Tensor, Parameter) and unpack_dual(x).tangent is None


def is_exporting() -> bool:
    """Whether a model is being exported or traced, rather than run or compiled."""
    return _is_exporting() or torch.jit.is_tracing()


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which autocast would make a product or a convolution of ``x``, or that of ``x`` without autocast."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def on_device_of(x: Tensor) -> AbstractContextManager:
    """Triton launches on the current GPU, which need not be that of the tensor; a compiler sees to that by itself."""
    return torch.cuda.device(x.device) if x.is_cuda and not torch.compiler.is_compiling() else nullcontext()


@torch.compiler.assume_constant_result
def triton_works(gpu: int) -> bool:
    """Whether the kernels give PyTorch's results on this GPU.

    A compiler takes the answer for a constant; it would trace what is cached.
    """
    return try_out(gpu)


@functools.cache
def try_out(gpu: int) -> bool:
    """Triton may be missing, and it needs a GPU of compute capability 8 and a C compiler."""
    try:
        from xvit_det.kernels.trial import run

        if not INTERPRETED and (torch.version.hip or torch.cuda.get_device_capability(gpu) < (8, 0)):
            return False
        run('cpu' if INTERPRETED else f'cuda:{gpu}')
    except ImportError:
        return False
    except Exception as error:  # whatever a broken tool chain raises: PyTorch does without it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f'the Triton kernels of xvit_det do not work here, PyTorch takes their place: {reason}', stacklevel=2
        )
        return False
    return True
