"""Whether the Triton kernels work on this machine."""

import functools
import warnings

import torch

from xvit_det import kernels


@torch.compiler.assume_constant_result  # the compiler would trace through the cache
def triton_works(gpu: int) -> bool:
    """Whether the kernels give PyTorch's results on this GPU."""
    return try_out(gpu)


@functools.cache
def try_out(gpu: int) -> bool:
    """Run the kernels once: Triton may be missing, and it needs a C compiler and a GPU of compute capability 8.0."""
    try:
        from xvit_det.kernels.trial import run

        if not kernels.INTERPRETED and (torch.version.hip or torch.cuda.get_device_capability(gpu) < (8, 0)):
            return False
        run('cpu' if kernels.INTERPRETED else f'cuda:{gpu}')
    except ImportError:
        return False
    except Exception as error:  # a broken tool chain may raise anything; PyTorch works without it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f'the Triton kernels of xvit_det do not work here, falling back to PyTorch: {reason}', stacklevel=2
        )
        return False
    return True
