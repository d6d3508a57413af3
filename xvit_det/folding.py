"""Folding what is constant after training into the weights of neighbouring layers.

A part of a model that can be simplified for inference has a method ``fold()``, which returns the module that takes its
place: itself, changed, or another one. :func:`fold_parts` calls it on all parts of a model.

Products and sums are formed in float64 and rounded once.
"""

import torch
from torch import Tensor, nn

from xvit_det.kernels.onednn import OneDNNLinear

LinearOrConv = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


@torch.no_grad()
def fold_parts(module: nn.Module) -> None:
    """Fold all parts of a module in place, the innermost first."""
    for name, part in module.named_children():
        fold_parts(part)
        if fold := getattr(part, 'fold', None):
            part = fold()
        elif type(part) is nn.Linear:  # a subclass may compute something else
            part = OneDNNLinear(part)
        setattr(module, name, part.eval())


def fold_after(layer: LinearOrConv, scale: Tensor, shift: Tensor) -> None:
    """Turn a linear layer or convolution into ``scale · layer(x) + shift``, both (C_out,)."""
    dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0  # the weight's axis of output channels
    weight = layer.weight.double()
    shape = [-1 if i == dim else 1 for i in range(weight.ndim)]
    bias = 0 if layer.bias is None else layer.bias.double()
    _set(layer, weight * scale.double().view(shape), bias * scale.double() + shift.double())


def fold_before(layer: nn.Linear, scale: Tensor, shift: Tensor | None = None) -> None:
    """Turn a linear layer into ``layer(scale · x + shift)``, both (C_in,)."""
    weight = layer.weight.double()
    bias = None if layer.bias is None else layer.bias.double()
    if shift is not None:
        bias = (0 if bias is None else bias) + weight @ shift.double()
    _set(layer, weight * scale.double(), bias)


def fold_layer_norm(norm: nn.LayerNorm, *layers: nn.Linear) -> nn.LayerNorm:
    """Fold a LayerNorm's weight and bias into the linear layers that read it; returns the LayerNorm without them."""
    for layer in layers:
        fold_before(layer, norm.weight, norm.bias)
    plain = nn.LayerNorm(norm.normalized_shape, norm.eps, elementwise_affine=False)
    return plain.train(norm.training)


def _set(layer: LinearOrConv, weight: Tensor, bias: Tensor | None) -> None:
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.register_parameter('bias', None if bias is None else nn.Parameter(bias.to(dtype), requires_grad=False))
