"""Faster implementations for inference, and the choice between them and PyTorch's operations, which are the reference.

``XVIT_DET_TRITON=1`` switches Triton kernels on, which have not been run on a GPU yet: on an NVIDIA GPU wherever they
can be used, see :func:`usable`, and with ``TRITON_INTERPRET=1`` on a CPU in Triton's interpreter, for tests and
debugging. On a CPU fused models compute linear layers with oneDNN and convolutions after Winograd where trials find
that faster, see :mod:`xvit_det.kernels.onednn` and :mod:`xvit_det.kernels.winograd`.
"""

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.nn import Parameter

SWITCHED_ON = os.environ.get('XVIT_DET_TRITON', '0') != '0'
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
_DEVICE = 'cpu' if INTERPRETED else 'cuda'
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)  # torch 2.6 has the latter only


def usable(*tensors: Tensor | None) -> bool:
    """Whether the Triton kernels can take these tensors: on the GPU, in a supported dtype, with no gradient to record.

    Never while a model is exported: the exported model must run where there is no Triton.
    """
    given = [x for x in tensors if x is not None]
    if (
        not SWITCHED_ON
        or not all(x.device.type == _DEVICE and x.dtype in _DTYPES and _is_plain(x) for x in given)
        or (torch.is_grad_enabled() and any(x.requires_grad for x in given))
        or is_exporting()
    ):
        return False
    from xvit_det.kernels.support import triton_works  # imports the compiler, which takes half a second

    return triton_works(given[0].get_device())


def _is_plain(x: Tensor) -> bool:
    """Whether this is a plain tensor: no subclass, no forward-mode tangent."""
    if torch.compiler.is_compiling():
        return True
    return type(x) in (Tensor, Parameter) and unpack_dual(x).tangent is None


def is_exporting() -> bool:
    """Whether a model is being exported or traced, rather than run or compiled."""
    return _is_exporting() or torch.jit.is_tracing()


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which autocast would compute a product or convolution of ``x``; without autocast that of ``x``."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def on_device_of(x: Tensor) -> AbstractContextManager:
    """Make the tensor's GPU the current one, on which Triton launches; compiled code does this itself."""
    return torch.cuda.device(x.device) if x.is_cuda and not torch.compiler.is_compiling() else nullcontext()
