"""XNorm attention against its equations, and the properties that follow from them."""

import pytest
import torch
from torch.nn.functional import linear

from xvit_det.analysis import count_macs
from xvit_det.errors import InputError
from xvit_det.mixers import XNormAttention, xnorm_attention
from xvit_det.mixers.xnorm import xnorm_weights


def by_definition(mixer: XNormAttention, x: torch.Tensor) -> torch.Tensor:
    """The paper's equations, one image, head and token at a time."""
    e, heads = mixer.proj.in_features, mixer.num_heads
    c = e // heads
    q, k, v = linear(x, mixer.qkv.weight, mixer.qkv.bias).split(e, dim=-1)
    out = torch.zeros_like(q)
    for b in range(len(x)):
        for h in range(heads):
            part = slice(h * c, (h + 1) * c)
            kv = sum(torch.outer(k[b, n, part], v[b, n, part]) for n in range(x.shape[1]))
            lengths = kv.norm(dim=0, keepdim=True) if mixer.kv_axis == -2 else kv.norm(dim=1, keepdim=True)
            kv = mixer.gamma_kv[0, h] * kv / lengths
            for n in range(x.shape[1]):
                query = mixer.gamma_q[0, h, 0] * q[b, n, part] / q[b, n, part].norm()
                out[b, n, part] = query @ kv
    return mixer.proj(out)


@pytest.mark.parametrize('kv_axis', [-2, -1])
def test_equals_its_definition(kv_axis):
    torch.manual_seed(0)
    mixer = XNormAttention(24, attn_dims=12, num_heads=3, kv_axis=kv_axis, gamma=0.7).double()
    torch.nn.init.normal_(mixer.gamma_q)
    torch.nn.init.normal_(mixer.gamma_kv)
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    torch.testing.assert_close(mixer(x), by_definition(mixer, x))


def test_output_is_a_cosine_times_the_gammas():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 50, 8).unbind()
    gamma = torch.tensor([0.5, 1.0, 2.0, 3.0])[None, :, None, None]
    out = xnorm_attention(q, k, v, gamma)
    assert (out.abs() <= gamma + 1e-6).all()
    # A query along one axis reads one row of the normalised matrix; all rows together are its columns of length gamma.
    rows = xnorm_attention(torch.eye(8).expand(2, 4, 8, 8), k, v, gamma)
    torch.testing.assert_close(rows.norm(dim=-2), gamma[..., 0].expand(2, 4, 8))
    # Normalised along the values instead, the output leaves those bounds.
    correlated = xnorm_attention(torch.ones(1, 1, 1, 8), torch.ones(1, 1, 5, 8), torch.ones(1, 1, 5, 8), kv_axis=-1)
    assert correlated.norm() > 1.5


def test_repeating_every_token_changes_nothing():
    torch.manual_seed(0)
    mixer = XNormAttention(32, attn_dims=16, num_heads=4)
    x = torch.randn(2, 9, 32)
    torch.testing.assert_close(mixer(x.repeat(1, 3, 1)), mixer(x).repeat(1, 3, 1))


def test_order_of_tokens_does_not_matter():
    torch.manual_seed(0)
    mixer = XNormAttention(32, attn_dims=16, num_heads=4)
    x, order = torch.randn(2, 9, 32), torch.randperm(9)
    torch.testing.assert_close(mixer(x[:, order]), mixer(x)[:, order])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_and_close_on_large_images(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 1, 2, 4200, 16) + 4).unbind()
    exact = xnorm_attention(q.double(), k.double(), v.double())
    half = xnorm_attention(q.to(dtype), k.to(dtype), v.to(dtype))
    assert half.dtype == dtype
    assert (half.double() - exact).abs().max() < (2e-3 if dtype == torch.float16 else 2e-2)
    # Without the care taken, this input overflows: the reason why the care is there.
    assert not torch.isfinite((k.transpose(-2, -1) @ v).to(torch.float16)).all()


def test_tiny_and_zero_vectors():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 6, 4).unbind()
    torch.testing.assert_close(xnorm_attention(q * 1e-6, k * 1e-4, v * 1e-4), xnorm_attention(q, k, v))
    q, k, v = (t.clone().requires_grad_() for t in (q * 0, k * 0, v))
    out = xnorm_attention(q, k, v)
    out.sum().backward()
    assert (out == 0).all()
    assert all(t.grad.abs().max() < 100 for t in (q, k, v))


def test_padded_tokens_do_not_count():
    torch.manual_seed(0)
    mixer = XNormAttention(32, attn_dims=16, num_heads=4)
    x = torch.randn(2, 5, 32)
    padded = torch.cat((x, 100 * torch.randn(2, 5, 32)), dim=1)
    valid = (torch.arange(10) < 5).expand(2, 10)
    torch.testing.assert_close(mixer(padded, valid)[:, :5], mixer(x))
    assert not torch.allclose(mixer(padded)[:, :5], mixer(x), atol=1e-2)


def test_gamma_and_width_options():
    assert XNormAttention(32, num_heads=4).proj.in_features == 32
    bare = XNormAttention(32, attn_dims=16, num_heads=4, gamma=None)
    scaled = XNormAttention(32, attn_dims=16, num_heads=4, gamma=2.0)
    scaled.load_state_dict(bare.state_dict(), strict=False)
    x = torch.randn(1, 6, 32)
    assert not any('gamma' in name for name, _ in bare.named_parameters())
    torch.testing.assert_close(scaled(x) - scaled.proj.bias, 4 * (bare(x) - bare.proj.bias))
    with pytest.raises(InputError, match='attn_dims=18 is not divisible by num_heads=4'):
        XNormAttention(32, attn_dims=18, num_heads=4)
    with pytest.raises(InputError, match='kv_axis=0 is not -2'):
        XNormAttention(32, num_heads=4, kv_axis=0)


def test_cost_is_linear_in_tokens_and_matches_a_hand_count():
    class OnTokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mixer = XNormAttention(32, attn_dims=16, num_heads=4)

        def forward(self, x):
            return self.mixer(x.flatten(2).transpose(1, 2))

    def by_hand(n: int) -> int:
        return n * 32 * 48 + 2 * n * 16 * 4 + n * 16 * 32  # qkv; kᵀv and q·kv at c = 4 per head; output

    for side in (4, 8, 16):
        assert count_macs(OnTokens(), side, in_channels=32) == by_hand(side**2)


@pytest.mark.parametrize('kv_axis', [-2, -1])
def test_its_weights_sum_the_values_to_its_output(kv_axis):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 30, 8, dtype=torch.float64).unbind()
    gamma, valid = torch.rand(1, 4, 1, 1, dtype=torch.float64), torch.rand(2, 30) < 0.7
    weights, values = xnorm_weights(q, k, v, gamma, kv_axis, valid)
    assert weights.shape == (2, 4, 30, 30) and weights.min() < 0
    torch.testing.assert_close(weights @ values, xnorm_attention(q, k, v, gamma, kv_axis, valid))
    assert not (weights * ~valid[:, None, None]).any()
    mixer, x = XNormAttention(24, attn_dims=12, num_heads=3, kv_axis=kv_axis, gamma=0.7), torch.randn(2, 7, 24)
    torch.testing.assert_close(mixer.attention_map(x)[:, :, 2:3], mixer.attention_map(x, queries=slice(2, 3)))
