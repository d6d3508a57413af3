"""Softmax attention against its definition and against PyTorch's own module."""

import pytest
import torch
from torch import nn

from xvit_det.errors import InputError
from xvit_det.mixers import RotaryPosition, SoftmaxAttention


def by_definition(mixer, x, keep):
    """One image, head and query at a time; ``keep`` (B, N) says which keys count."""
    images, n, _ = x.shape
    q, k, v = mixer.qkv(x).chunk(3, dim=-1)
    d = q.shape[-1] // mixer.num_heads
    out = torch.zeros_like(q)
    maps = torch.zeros(images, mixer.num_heads, n, n, dtype=x.dtype)
    for b in range(images):
        for h in range(mixer.num_heads):
            part = slice(h * d, (h + 1) * d)
            for i in range(n):
                weights = torch.stack([torch.exp(q[b, i, part] @ k[b, j, part] / d**0.5) for j in range(n)]) * keep[b]
                maps[b, h, i] = weights / weights.sum()
                out[b, i, part] = sum(maps[b, h, i, j] * v[b, j, part] for j in range(n))
    return mixer.proj(out), maps


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('head_dims', [None, 3])
@pytest.mark.parametrize('qkv_bias', [False, True])
def test_equals_its_definition(fused, head_dims, qkv_bias):
    torch.manual_seed(0)
    mixer = SoftmaxAttention(8, 2, head_dims, fused=fused, qkv_bias=qkv_bias).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    out, maps = by_definition(mixer, x, torch.ones(2, 5))
    torch.testing.assert_close(mixer(x), out)
    torch.testing.assert_close(mixer.attention_map(x), maps)
    valid = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]]).bool()
    out, maps = by_definition(mixer, x, valid)
    torch.testing.assert_close(mixer(x, valid), out)
    torch.testing.assert_close(mixer.attention_map(x, valid), maps)


def test_equals_torch_multihead_attention():
    torch.manual_seed(0)
    ours, theirs = SoftmaxAttention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.in_proj_weight.data, theirs.out_proj.weight.data = ours.qkv.weight.data, ours.proj.weight.data
    theirs.in_proj_bias.data.zero_()
    theirs.out_proj.bias.data = ours.proj.bias.data
    x, valid = torch.randn(2, 9, 24), torch.rand(2, 9) > 0.3
    out, maps = theirs(x, x, x, key_padding_mask=~valid, average_attn_weights=False)
    torch.testing.assert_close(ours(x, valid), out)
    torch.testing.assert_close(ours.attention_map(x, valid), maps)


def test_leaving_tokens_out_is_the_same_as_not_having_them():
    torch.manual_seed(0)
    mixer, x = SoftmaxAttention(16, 4), torch.randn(1, 7, 16)
    valid = torch.tensor([[1, 0, 1, 1, 0, 0, 1]]).bool()
    torch.testing.assert_close(mixer(x, valid)[valid][None], mixer(x[valid][None]))


@pytest.mark.parametrize('fused', [True, False])
def test_rotary_position_turns_queries_and_keys(fused):
    torch.manual_seed(0)
    position = RotaryPosition(4, axial=True)
    plain = SoftmaxAttention(8, 2, fused=False)
    mixer = SoftmaxAttention(8, 2, fused=fused, rotary=position)
    mixer.load_state_dict(plain.state_dict())
    x = torch.randn(2, 7, 8)
    q, k, v = mixer.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    scores = position(q, (2, 3)) @ position(k, (2, 3)).transpose(2, 3) / 2
    torch.testing.assert_close(mixer.attention_map(x, size=(2, 3)), scores.softmax(dim=3))
    expected = mixer.proj((scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixer(x, size=(2, 3)), expected)
    assert not torch.allclose(plain(x), expected, atol=1e-4)


@pytest.mark.parametrize('fused', [True, False])
def test_dropout_is_for_training_only(fused):
    torch.manual_seed(0)
    mixer, x = SoftmaxAttention(8, 2, attn_drop=0.5, fused=fused), torch.randn(1, 6, 8)
    assert not torch.equal(mixer(x), mixer(x))
    mixer.eval()
    assert torch.equal(mixer(x), mixer(x))


def test_width_must_split_into_the_heads():
    with pytest.raises(InputError, match='embed_dims=10 is not divisible by num_heads=4; set head_dims'):
        SoftmaxAttention(10, 4)


@pytest.mark.parametrize('options', [dict(num_heads=0), dict(num_heads=-2), dict(head_dims=0)])
def test_heads_are_at_least_one_channel_and_one(options):
    ((name, value),) = options.items()
    with pytest.raises(InputError, match=f'^{name}={value} is not at least 1'):
        SoftmaxAttention(8, **options)
