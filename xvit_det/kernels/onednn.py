"""Linear layers for inference that apply activation, bias and residual in the same kernel where that is faster.

On a CPU that kernel is oneDNN's linear layer, the one that TorchInductor uses: activation, bias and residual are
applied while the product is in the cache. In float32 PyTorch's own linear layer calls MKL instead. Which of the two is
faster depends on the CPU, so a trial on the machine decides, see :func:`speedup`. ``XVIT_DET_LINEAR=onednn`` or
``torch`` decides without it.
"""

import functools
import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.errors import InputError
from xvit_det.functional import gelu_
from xvit_det.kernels import is_exporting

VARIABLE = 'XVIT_DET_LINEAR'
CHOICES = ('auto', 'onednn', 'torch')
_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
DTYPES = [torch.float32] if _HAS_ONEDNN else []  # those in which oneDNN can compute here
if _HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    DTYPES.append(torch.bfloat16)
# The trial: an MLP of X-ViT-S on the tokens of an image of 512 x 512. Noise must not decide in oneDNN's favour.
TOKENS, CHANNELS, PAIRS, MARGIN = 1024, 384, 7, 1.02


class OneDNNLinear(nn.Linear):
    """A linear layer computed by :func:`linear`.

    Args:
        layer: The layer whose weight and bias it takes over.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device='meta')
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor, act: str = 'none') -> Tensor:
        return linear(x, self.weight, self.bias, act)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, act: str = 'none') -> Tensor:
    """``x · weightᵀ + bias``: (..., C), (D, C), (D,) -> (..., D), followed by GELU with ``act='gelu'``."""
    return _kernel_for(x, weight)(x, weight, bias, act, None)


def linear_add(residual: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``residual + linear(x)`` with one weight (D, C) or one per image, (B, D, C); x (B, N, C) -> (B, N, D)."""
    if not residual.dtype == x.dtype == weight.dtype == bias.dtype:  # under autocast, which leaves in-place sums alone
        return residual + bias + x @ weight.mT
    if weight.ndim == 3 and weight.shape[0] == 1 and not is_exporting():  # a graph serves other batches, too
        weight = weight[0]
    if weight.ndim == 2:
        return _kernel_for(x, weight)(x, weight, bias, 'none', residual)
    return (residual + bias).baddbmm_(x, weight.mT)


def _torch_kernel(x: Tensor, weight: Tensor, bias: Tensor | None, act: str, residual: Tensor | None) -> Tensor:
    """PyTorch's own operations: x (..., C), weight (D, C), residual (B, N, D) -> (..., D) or (B, N, D)."""
    if residual is not None:
        assert bias is not None
        total = residual + bias
        return total.flatten(0, 1).addmm_(x.flatten(0, 1), weight.T).view_as(total)
    x = F.linear(x, weight, bias)
    return gelu_(x) if act == 'gelu' else x


def _kernel(x: Tensor, weight: Tensor, bias: Tensor | None, act: str, residual: Tensor | None) -> Tensor:
    """oneDNN's: shapes as :func:`_torch_kernel`."""
    if residual is not None:
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, 'add')
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, act, [], 'none')


# TorchInductor has its own lowering of oneDNN's kernel, which fails on weights that are not constants of the graph.
_opaque_kernel = torch.library.custom_op('xvit_det::onednn_linear', _kernel, mutates_args=())


@_opaque_kernel.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, act: str, residual: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _kernel_for(x: Tensor, weight: Tensor) -> Callable[..., Tensor]:
    """oneDNN's kernel where it applies and is faster: it has no gradient, does not take part in autocast, and exists on
    CPUs only.
    """
    applies = (
        x.device.type == 'cpu'
        and x.dtype == weight.dtype
        and x.dtype in DTYPES
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch.is_autocast_enabled('cpu')
        and not is_exporting()
    )
    if not (applies and is_chosen(x.dtype)):
        return _torch_kernel
    return _opaque_kernel if torch.compiler.is_compiling() else _kernel


@torch.compiler.assume_constant_result  # the compiler would trace through the clock
def is_chosen(dtype: torch.dtype) -> bool:
    """Whether fused models compute their linear layers with oneDNN, in one of ``DTYPES``."""
    if choice() == 'auto':
        return speedup(dtype, torch.get_num_threads()) > MARGIN
    return choice() == 'onednn'


def choice() -> str:
    """What the environment asks for, one of ``CHOICES``.

    Raises:
        InputError: It asks for something else.
    """
    name = os.environ.get(VARIABLE, 'auto')
    if name not in CHOICES:
        raise InputError(f'{VARIABLE} is {name!r}, but must be one of {", ".join(CHOICES)}')
    return name


@functools.cache
@torch.no_grad()
def speedup(dtype: torch.dtype, threads: int) -> float:
    """How many times as fast an MLP is with oneDNN as with PyTorch's operations: the median of some pairs of calls.

    Takes some tenths of a second, once in a process.

    Args:
        dtype: One of ``DTYPES``.
        threads: How many PyTorch computes with now; another number is another trial.
    """
    random = torch.Generator().manual_seed(0)  # leaves the global random state alone
    x = torch.randn(1, TOKENS, CHANNELS, generator=random).to(dtype)
    weight1 = torch.randn(4 * CHANNELS, CHANNELS, generator=random).to(dtype) / CHANNELS**0.5
    weight2, bias1, bias2 = weight1.T.contiguous(), weight1[:, 0].contiguous(), weight1[0]

    def seconds(kernel: Callable[..., Tensor]) -> float:
        start = time.perf_counter()
        kernel(kernel(x, weight1, bias1, 'gelu', None), weight2, bias2, 'none', x)
        return time.perf_counter() - start

    pairs = [(seconds(_torch_kernel), seconds(_kernel)) for _ in range(PAIRS + 1)]  # the first is the warm-up
    return statistics.median(torchs / onednns for torchs, onednns in pairs[1:])
