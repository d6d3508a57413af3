"""Channel norm against its definition."""

import torch
from torch import nn

from xvit_det.layers import ChannelNorm


def by_definition(norm: ChannelNorm, x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    for token in range(len(x)):
        values = x[token]
        mean = values.sum() / len(values)
        deviation = ((values - mean) ** 2).sum().div(len(values)).sqrt()
        out[token] = (values - mean) / (deviation + 1e-5) * norm.weight + norm.bias
    return out


def test_equals_its_definition_also_where_the_epsilon_counts():
    torch.manual_seed(0)
    norm = ChannelNorm(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(8, 6) * 10.0 ** -torch.arange(8)[:, None]
    torch.testing.assert_close(norm(x), by_definition(norm, x), rtol=1e-4, atol=1e-5)
    layer_norm = nn.LayerNorm(6)
    assert (ChannelNorm(6)(x)[5] - layer_norm(x)[5]).abs().max() > 0.1, 'ε is added to the deviation, not the variance'


def test_constant_tokens_become_the_bias_and_have_a_finite_gradient():
    norm = ChannelNorm(4)
    nn.init.constant_(norm.bias, 0.25)
    x = torch.full((3, 4), 2.0, requires_grad=True)
    out = norm(x)
    assert (out == 0.25).all()
    (out * torch.arange(4.0)).sum().backward()
    assert x.grad.isfinite().all() and norm.weight.grad.isfinite().all()


def test_half_precision_is_normed_in_float32():
    x = torch.randn(5, 64) * 300  # squares beyond float16
    half = ChannelNorm(64)(x.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), ChannelNorm(64)(x), rtol=0.01, atol=0.01)


def test_double_precision_stays():
    torch.manual_seed(0)
    norm = ChannelNorm(6).double()
    x = torch.randn(8, 6, dtype=torch.float64)
    torch.testing.assert_close(norm(x), by_definition(norm, x), rtol=1e-14, atol=1e-14)
