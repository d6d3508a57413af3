"""Linear layers for inference that apply activation, bias and residual in the same kernel where that is faster.

On a CPU that kernel is oneDNN's linear layer, the one that TorchInductor uses: activation, bias and residual are
applied while the product is in the cache. In float32 PyTorch's own linear layer calls MKL instead. Which of the two is
faster depends on the CPU, so a trial on the machine decides, see :mod:`xvit_det.kernels.linear_trial`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.functional import gelu_
from xvit_det.kernels import is_exporting

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
DTYPES = [torch.float32] if _HAS_ONEDNN else []  # those in which oneDNN can compute here
if _HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    DTYPES.append(torch.bfloat16)
GROUP = 1400  # tokens; 700 to 2100 were tried with AVX2 and AVX-512


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


def mlp_add(x: Tensor, norm: nn.Module, fc1: OneDNNLinear, fc2: OneDNNLinear) -> Tensor:
    """``x + fc2(GELU(fc1(norm(x))))``, tokens (B, N, C) -> (B, N, C).

    With PyTorch's own operations the tokens of a large image are computed in groups that share one buffer: allocating
    the wide activations (B, N, 4 C) of all of them anew in each block takes longer than the GELU.
    """
    in_groups = _is_plain(x, fc1.weight) and not torch.compiler.is_compiling() and x.shape[0] * x.shape[1] > GROUP
    if not in_groups or _kernel_for(x, fc1.weight) is not torch_kernel:
        return linear_add(x, fc1(norm(x), act='gelu'), fc2.weight, fc2.bias)
    tokens = x.flatten(0, 1)  # (B, N, C) -> (B·N, C)
    out, buffer = torch.empty_like(tokens), tokens.new_empty(GROUP, fc1.out_features)
    for group, result in zip(tokens.split(GROUP), out.split(GROUP), strict=True):
        hidden = torch.addmm(fc1.bias, norm(group), fc1.weight.T, out=buffer[: len(group)])
        torch.add(group, fc2.bias, out=result).addmm_(gelu_(hidden), fc2.weight.T)
    return out.view_as(x)


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    """Whether this is inference on a CPU, neither with autocast nor for an export."""
    return (
        x.device.type == 'cpu'
        and x.dtype == weight.dtype
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch.is_autocast_enabled('cpu')
        and not is_exporting()
    )


def torch_kernel(x: Tensor, weight: Tensor, bias: Tensor | None, act: str, residual: Tensor | None) -> Tensor:
    """PyTorch's own operations: x (..., C), weight (D, C), residual (B, N, D) -> (..., D) or (B, N, D)."""
    if residual is not None:
        assert bias is not None
        total = residual + bias
        return total.flatten(0, 1).addmm_(x.flatten(0, 1), weight.T).view_as(total)
    x = F.linear(x, weight, bias)
    return gelu_(x) if act == 'gelu' else x


def onednn_kernel(x: Tensor, weight: Tensor, bias: Tensor | None, act: str, residual: Tensor | None) -> Tensor:
    """oneDNN's: shapes as :func:`torch_kernel`."""
    if residual is not None:
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, 'add')
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, act, [], 'none')


# TorchInductor has its own lowering of oneDNN's kernel, which fails on weights that are not constants of the graph.
_opaque_kernel = torch.library.custom_op('xvit_det::onednn_linear', onednn_kernel, mutates_args=())


@_opaque_kernel.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, act: str, residual: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _kernel_for(x: Tensor, weight: Tensor) -> Callable[..., Tensor]:
    """oneDNN's kernel where it applies and is faster: it has no gradient, does not take part in autocast, and exists on
    CPUs only.
    """
    applies = x.dtype in DTYPES and _is_plain(x, weight)
    if not applies:
        return torch_kernel
    from xvit_det.kernels.linear_trial import is_chosen  # imports the compiler, which takes half a second

    if not is_chosen(x.dtype):
        return torch_kernel
    return _opaque_kernel if torch.compiler.is_compiling() else onednn_kernel
