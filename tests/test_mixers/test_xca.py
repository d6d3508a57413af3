"""Cross-covariance attention against its equation, and the properties that follow from it."""

import pytest
import torch
from torch.nn.functional import linear

from xvit_det.analysis import count_macs
from xvit_det.errors import InputError
from xvit_det.mixers import CrossCovarianceAttention


def by_definition(mixer: CrossCovarianceAttention, x: torch.Tensor) -> torch.Tensor:
    """The paper's Section 3.2, one image, head and pair of channels at a time."""
    e, heads = mixer.proj.in_features, mixer.num_heads
    c = e // heads
    q, k, v = linear(x, mixer.qkv.weight, mixer.qkv.bias).split(e, dim=-1)
    out = torch.zeros_like(q)
    for b in range(len(x)):
        for h in range(heads):
            for i in range(h * c, (h + 1) * c):
                cosines = [
                    q[b, :, i] @ k[b, :, j] / (q[b, :, i].norm() * k[b, :, j].norm()) for j in range(h * c, (h + 1) * c)
                ]
                weights = (torch.stack(cosines) * mixer.temperature[h, 0, 0]).exp()
                out[b, :, i] = v[b, :, h * c : (h + 1) * c] @ (weights / weights.sum())
    return mixer.proj(out)


def build(*args, **options) -> CrossCovarianceAttention:
    torch.manual_seed(0)
    mixer = CrossCovarianceAttention(*args, **options)
    torch.nn.init.normal_(mixer.temperature, 1.0, 3.0)
    return mixer


@pytest.mark.parametrize('attn_dims', [None, 12])
def test_equals_its_definition(attn_dims):
    mixer = build(24, attn_dims, num_heads=3).double()
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    torch.testing.assert_close(mixer(x), by_definition(mixer, x))


def test_the_two_factors_make_the_output():
    mixer = build(24, 12, num_heads=3)
    x, valid = torch.randn(2, 7, 24), torch.arange(7) < torch.tensor([[7], [4]])
    tokens, weight = mixer.product(x, valid)
    assert tokens.shape == (2, 7, 12) and weight.shape == (2, 24, 12)
    torch.testing.assert_close(tokens @ weight.mT + mixer.proj.bias, mixer(x, valid))


def test_temperatures_start_at_one_and_belong_to_the_heads():
    mixer = CrossCovarianceAttention(32, num_heads=4)
    assert mixer.temperature.shape == (4, 1, 1) and (mixer.temperature == 1).all()
    assert mixer.proj.in_features == 32
    with pytest.raises(InputError, match='attn_dims=18 is not divisible by num_heads=4'):
        CrossCovarianceAttention(32, attn_dims=18, num_heads=4)


def test_order_and_repetition_of_tokens_do_not_matter():
    mixer = build(32, num_heads=4)
    x, order = torch.randn(2, 9, 32), torch.randperm(9)
    torch.testing.assert_close(mixer(x[:, order]), mixer(x)[:, order])
    torch.testing.assert_close(mixer(x.repeat(1, 3, 1)), mixer(x).repeat(1, 3, 1))


def test_padded_tokens_do_not_count():
    mixer = build(32, num_heads=4)
    x = torch.randn(2, 5, 32)
    padded = torch.cat((x, 100 * torch.randn(2, 5, 32)), dim=1)
    valid = (torch.arange(10) < 5).expand(2, 10)
    torch.testing.assert_close(mixer(padded, valid)[:, :5], mixer(x))
    assert not torch.allclose(mixer(padded)[:, :5], mixer(x), atol=1e-2)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_stays_close_on_the_largest_images(dtype):
    """67,200 tokens, 800 x 1344 pixels at stride 4, whose products, summed in float16, would overflow."""
    mixer = build(16, num_heads=2)
    torch.nn.init.constant_(mixer.qkv.bias, 8.0)
    x = torch.randn(1, 200 * 336, 16)
    exact = mixer.double()(x.double())
    half = mixer.to(dtype)(x.to(dtype))
    assert half.dtype == dtype and half.isfinite().all()
    assert (half.double() - exact).norm() < (1e-3 if dtype == torch.float16 else 1e-2) * exact.norm()
    q, k, _ = mixer.qkv(x.to(dtype)).chunk(3, dim=-1)
    assert (q.float().mT @ k.float()).abs().max() > torch.finfo(torch.float16).max


def test_channels_of_zeros_take_the_mean_of_their_head():
    mixer = CrossCovarianceAttention(8, num_heads=2)
    torch.nn.init.zeros_(mixer.qkv.weight[:16])
    torch.nn.init.zeros_(mixer.qkv.bias)
    x = torch.randn(1, 6, 8, requires_grad=True)
    out = mixer(x)
    values = mixer.qkv(x)[..., 16:].unflatten(2, (2, 4)).mean(dim=3, keepdim=True).expand(-1, -1, -1, 4)
    torch.testing.assert_close(out, mixer.proj(values.flatten(2)))
    out.square().sum().backward()
    assert all(t.grad.abs().max() < 100 for t in (x, *mixer.parameters()))


def test_cost_is_linear_in_tokens_and_matches_a_hand_count():
    class OnTokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mixer = CrossCovarianceAttention(32, attn_dims=16, num_heads=4)

        def forward(self, x):
            return self.mixer(x.flatten(2).transpose(1, 2))

    def by_hand(n: int) -> int:
        return n * 32 * 48 + 2 * n * 16 * 4 + n * 16 * 32  # qkv; q̂ᵀk̂ and v·A at c = 4 per head; output

    for side in (4, 8, 16):
        assert count_macs(OnTokens(), side, in_channels=32) == by_hand(side**2)
