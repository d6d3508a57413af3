"""Linear layers for inference that apply activation, bias and residual in the same kernel where the machine can.

On a CPU this is oneDNN's linear layer, the one that TorchInductor uses: activation, bias and residual are applied while
the product is in the cache, and unlike MKL, which PyTorch's own linear layer calls in float32, it uses the wide vector
instructions of every vendor's CPUs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.functional import gelu_
from xvit_det.kernels import is_exporting

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
_DTYPES = {torch.float32}
if _HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    _DTYPES.add(torch.bfloat16)


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
    if _use_onednn(x, weight):
        return _onednn(x, weight, bias, act)
    x = F.linear(x, weight, bias)
    return gelu_(x) if act == 'gelu' else x


def linear_add(residual: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``residual + linear(x)`` with one weight (D, C) or one per image, (B, D, C); x (B, N, C) -> (B, N, D)."""
    single = weight.ndim == 3 and weight.shape[0] == 1 and not is_exporting()  # a graph serves other batches, too
    shared = weight[0] if single else weight if weight.ndim == 2 else None
    if shared is not None and residual.dtype == x.dtype and _use_onednn(x, shared):
        return _onednn(x, shared, bias, residual=residual)
    total = residual + bias
    if not total.dtype == x.dtype == weight.dtype:  # under autocast, which does not convert in-place operations
        return total + x @ weight.mT
    if shared is None:
        return total.baddbmm_(x, weight.mT)
    return total.flatten(0, 1).addmm_(x.flatten(0, 1), shared.T).view_as(total)


def _onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, act: str = 'none', residual: Tensor | None = None
) -> Tensor:
    kernel = _opaque_kernel if torch.compiler.is_compiling() else _kernel
    return kernel(x, weight, bias, act, residual)


def _kernel(x: Tensor, weight: Tensor, bias: Tensor | None, act: str, residual: Tensor | None) -> Tensor:
    if residual is not None:
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, 'add')
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, act, [], 'none')


# TorchInductor has its own lowering of oneDNN's kernel, which fails on weights that are not constants of the graph.
_opaque_kernel = torch.library.custom_op('xvit_det::onednn_linear', _kernel, mutates_args=())


@_opaque_kernel.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, act: str, residual: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _use_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel applies: it has no gradient, does not take part in autocast, and exists on CPUs only."""
    return (
        _HAS_ONEDNN
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype
        and x.dtype in _DTYPES
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch.is_autocast_enabled('cpu')
        and not is_exporting()
    )
