"""Folding a scale and a shift per channel into the linear layer or convolution before or behind them.

Sums are formed in float64, so that folding rounds once.
"""

from torch import Tensor, nn

from xvit_det.layers.norm import is_constant, scale_and_shift


def fold_behind(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Make a linear layer or convolution give ``scale · layer(x) + shift``, both (C_out,)."""
    dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0  # of the weight: its output channels
    weight = layer.weight.double()
    shape = [-1 if i == dim else 1 for i in range(weight.ndim)]
    bias = 0 if layer.bias is None else layer.bias.double()
    _set(layer, weight * scale.double().view(shape), bias * scale.double() + shift.double())


def fold_before(layer: nn.Linear, scale: Tensor, shift: Tensor | None = None) -> None:
    """Make a linear layer give ``layer(scale · x + shift)``, both (C_in,)."""
    weight = layer.weight.double()
    bias = None if layer.bias is None else layer.bias.double()
    if shift is not None:
        bias = (0 if bias is None else bias) + weight @ shift.double()
    _set(layer, weight * scale.double(), bias)


def fold_norm(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """Fold the norm behind a layer into it, if it can be; what then stands in the norm's place."""
    if not is_constant(norm):
        return norm
    fold_behind(layer, *scale_and_shift(norm))
    return nn.Identity()


def fold_layer_norm(norm: nn.LayerNorm, *layers: nn.Linear) -> nn.LayerNorm:
    """Fold a LayerNorm's gain and shift into the linear layers that read it; the norm that is left."""
    for layer in layers:
        fold_before(layer, norm.weight, norm.bias)
    plain = nn.LayerNorm(norm.normalized_shape, norm.eps, elementwise_affine=False)
    return plain.train(norm.training)


def _set(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias.to(dtype), requires_grad=False)
