"""The choice between oneDNN's linear layers and PyTorch's own for fused models, by a trial on the machine at hand.

``XVIT_DET_LINEAR=onednn`` or ``torch`` decides without it.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from xvit_det.kernels.choice import asked, measured_speedup
from xvit_det.kernels.onednn import onednn_kernel, torch_kernel

VARIABLE = 'XVIT_DET_LINEAR'
CHOICES = ('auto', 'onednn', 'torch')
# The trial: an MLP of X-ViT-S on the tokens of an image of 512 x 512. Noise must not decide in oneDNN's favour.
TOKENS, CHANNELS, MARGIN = 1024, 384, 1.02


@torch.compiler.assume_constant_result  # the compiler would trace through the clock
def is_chosen(dtype: torch.dtype) -> bool:
    """Whether fused models compute their linear layers with oneDNN, in one of ``DTYPES``.

    Raises:
        InputError: The environment asks for something else than one of ``CHOICES``.
    """
    choice = asked(VARIABLE, CHOICES)
    return choice == 'onednn' or choice == 'auto' and speedup(dtype, torch.get_num_threads()) > MARGIN


@functools.cache
@torch.no_grad()
def speedup(dtype: torch.dtype, threads: int) -> float:
    """How many times as fast an MLP is with oneDNN as with PyTorch's operations.

    Takes some tenths of a second, once in a process.

    Args:
        dtype: One of ``DTYPES``.
        threads: How many PyTorch computes with now; another number is another trial.
    """
    random = torch.Generator().manual_seed(0)  # leaves the global random state alone
    x = torch.randn(1, TOKENS, CHANNELS, generator=random).to(dtype)
    weight1 = torch.randn(4 * CHANNELS, CHANNELS, generator=random).to(dtype) / CHANNELS**0.5
    weight2, bias1, bias2 = weight1.T.contiguous(), weight1[:, 0].contiguous(), weight1[0]

    def mlp(kernel: Callable[..., Tensor]) -> Tensor:
        return kernel(kernel(x, weight1, bias1, 'gelu', None), weight2, bias2, 'none', x)

    return measured_speedup(lambda: mlp(torch_kernel), lambda: mlp(onednn_kernel))
