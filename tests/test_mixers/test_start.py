"""A mixer starts from the weights of another one wherever they have a counterpart."""

import pytest
import torch
from torch import Tensor, nn

from xvit_det.mixers import (
    CrossCovarianceAttention,
    NystromAttention,
    PerformerAttention,
    SoftmaxAttention,
    TokenMixer,
    XNormAttention,
    start_from,
)


def drawn(mixer: TokenMixer) -> TokenMixer:
    for parameter in mixer.parameters():
        nn.init.normal_(parameter)
    return mixer


def rows(mixer: TokenMixer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, N, e) as the mixer projects them."""
    if isinstance(mixer, PerformerAttention):
        return mixer.q(x), mixer.k(x), mixer.v(x)
    return mixer.qkv(x).chunk(3, dim=-1)


@pytest.mark.parametrize(
    ('old', 'new', 'order'),
    [
        (CrossCovarianceAttention, XNormAttention, (2, 1, 0)),  # XNorm's queries are what XCA mixes: its values
        (XNormAttention, CrossCovarianceAttention, (2, 1, 0)),
        (SoftmaxAttention, PerformerAttention, (0, 1, 2)),
        (SoftmaxAttention, NystromAttention, (0, 1, 2)),
        (SoftmaxAttention, XNormAttention, (0, 1, 2)),
        (PerformerAttention, XNormAttention, (0, 1, 2)),
        (XNormAttention, XNormAttention, (0, 1, 2)),
    ],
)
def test_projections_are_those_of_the_old_mixer(old, new, order):
    torch.manual_seed(0)
    old, new, x = drawn(old(16, num_heads=2)), drawn(new(16, num_heads=2)), torch.randn(2, 5, 16)
    start_from(new, old)
    for part, source in zip(rows(new, x), order, strict=True):
        torch.testing.assert_close(part, rows(old, x)[source])
    torch.testing.assert_close(new.proj(x), old.proj(x))


def test_what_was_taken_is_told_and_the_rest_stays():
    new, old = drawn(XNormAttention(16, num_heads=2)), drawn(CrossCovarianceAttention(16, num_heads=2))
    gammas = new.gamma_q.clone(), new.gamma_kv.clone()
    assert start_from(new, old) == ['qkv.weight', 'qkv.bias', 'proj.weight', 'proj.bias']
    assert torch.equal(new.gamma_q, gammas[0]) and torch.equal(new.gamma_kv, gammas[1])


def test_weights_of_another_shape_stay():
    new, old = drawn(XNormAttention(16, attn_dims=8, num_heads=2)), drawn(CrossCovarianceAttention(16, num_heads=2))
    before = new.qkv.weight.clone()
    assert start_from(new, old) == ['proj.bias']
    assert torch.equal(new.qkv.weight, before)


def test_nystrom_starts_as_softmax_where_every_token_is_a_landmark():
    """Without its convolution and with as many landmarks as tokens, Nyström attention is softmax attention."""
    torch.manual_seed(0)
    old, new = (
        SoftmaxAttention(16, num_heads=2),
        drawn(NystromAttention(16, num_heads=2, landmarks=6, pinv_iterations=20)),
    )
    start_from(new, old)
    x = torch.randn(2, 6, 16)
    torch.testing.assert_close(new(x), old(x), atol=1e-3, rtol=1e-2)
    assert not new.conv.weight.any()
