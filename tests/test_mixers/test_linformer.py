"""Linformer against the package linformer, dense algebra and softmax attention; and its projection on other grids."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linformer import LinformerSelfAttention

from xvit_det.errors import InputError
from xvit_det.mixers import LinformerAttention, RotaryPosition, SoftmaxAttention

GRID = (4, 5)


@pytest.mark.parametrize('one_kv_head', [True, False])
@pytest.mark.parametrize('share_kv', [True, False])
def test_equals_the_package(one_kv_head, share_kv):
    """Unless keys are the values, the package has a projection of their own for values, which gets the keys' here."""
    torch.manual_seed(0)
    options = dict(one_kv_head=one_kv_head, share_kv=share_kv)
    ours = LinformerAttention(24, 3, grid=GRID, num_prefix=1, projected=6, **options).double()
    theirs = LinformerSelfAttention(24, 21, k=6, heads=3, **options).double()
    names = {'to_q.': 'q.', 'to_k.': 'k.', 'to_v.': 'v.', 'to_out.': 'proj.', 'proj_k': 'projection'}
    names['proj_v'] = 'projection'
    weights = ours.state_dict()
    for name, weight in theirs.state_dict().items():
        ours_name = next(name.replace(a, b) for a, b in names.items() if name.startswith(a))
        weight.copy_(weights[ours_name])
    x = torch.randn(2, 21, 24, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def by_definition(mixer, x, valid, position=None, size=None):
    """Equation 7 with dense matrices, one image and head at a time."""
    e = mixer.projection[None] * valid[..., None]  # (B, N, K)
    heads = []
    for h in range(mixer.num_heads):
        d = mixer.q.out_features // mixer.num_heads
        part = slice(h * d, (h + 1) * d)
        kv = part if mixer.kv_heads > 1 else slice(0, d)
        q, k = mixer.q(x)[..., part], mixer.k(x)[..., kv]
        v = k if mixer.v is None else mixer.v(x)[..., kv]
        if position is not None:
            q, k = (position(u[:, None], size)[:, 0] for u in (q, k))
        heads.append((q @ (e.mT @ k).mT / d**0.5).softmax(dim=-1) @ (e.mT @ v))
    return mixer.proj(torch.cat(heads, dim=-1))


@pytest.mark.parametrize('share_kv', [True, False])
@pytest.mark.parametrize('one_kv_head', [True, False])
@pytest.mark.parametrize('rotary', [False, True])
def test_equals_dense_algebra(one_kv_head, share_kv, rotary):
    """With a rotary position, keys are turned before the projection, and values are not, even if they are the keys."""
    torch.manual_seed(0)
    position = RotaryPosition(4, axial=True) if rotary else None
    options = dict(one_kv_head=one_kv_head, share_kv=share_kv, rotary=position)
    mixer = LinformerAttention(8, 2, grid=GRID, projected=3, **options).double()
    x, valid = torch.randn(2, 20, 8, dtype=torch.float64), torch.rand(2, 20) > 0.3
    torch.testing.assert_close(mixer(x, valid, GRID), by_definition(mixer, x, valid, position, GRID))
    torch.testing.assert_close(mixer(x, None, GRID), by_definition(mixer, x, torch.ones(1, 20), position, GRID))


def test_is_softmax_attention_when_nothing_is_projected():
    torch.manual_seed(0)
    linformer = LinformerAttention(8, 2, grid=GRID, projected=20, one_kv_head=False, share_kv=False)
    linformer.projection.data = torch.eye(20)
    softmax = SoftmaxAttention(8, 2)
    softmax.qkv.weight.data = torch.cat((linformer.q.weight, linformer.k.weight, linformer.v.weight))
    softmax.proj.load_state_dict(linformer.proj.state_dict())
    x = torch.randn(2, 20, 8)
    torch.testing.assert_close(linformer(x), softmax(x))


@settings(max_examples=20, deadline=None)
@given(size=st.tuples(st.integers(1, 12), st.integers(1, 12)), num_prefix=st.integers(0, 1))
def test_a_constant_projection_stays_constant_on_any_grid(size, num_prefix):
    torch.manual_seed(0)
    mixer = LinformerAttention(8, 2, grid=GRID, num_prefix=num_prefix, projected=3)
    columns = torch.tensor([1.0, -2.0, 0.5])
    prefix = mixer.projection.data[:num_prefix].clone()
    mixer.projection.data[num_prefix:] = columns
    number = size[0] * size[1]
    projection = mixer._projection_for(num_prefix + number, size)
    torch.testing.assert_close(projection[num_prefix:], (columns * 20 / number).expand(number, 3), rtol=1e-4, atol=0)
    torch.testing.assert_close(projection[:num_prefix], prefix)
    # Thus tokens that are all alike are mixed on any grid as on the one it was built for.
    token = torch.randn(1, 1, 8)
    out = mixer(token.expand(1, num_prefix + number, 8), size=size)
    torch.testing.assert_close(
        out, mixer(token.expand(1, num_prefix + 20, 8))[:, :1].expand_as(out), rtol=1e-4, atol=1e-4
    )


def test_resampling_keeps_a_smooth_projection():
    """A plane over the grid is about the same plane on a finer one, away from the borders."""
    mixer = LinformerAttention(8, 2, grid=(8, 8), projected=1)
    centres = (torch.arange(8) + 0.5) / 8
    mixer.projection.data = (centres[:, None] + 2 * centres).flatten()[:, None]
    fine = (torch.arange(16) + 0.5) / 16
    resampled = 4 * mixer._projection_for(256, (16, 16)).unflatten(0, (16, 16))[..., 0]
    expected = fine[:, None] + 2 * fine
    assert (resampled - expected)[4:-4, 4:-4].abs().max() < 0.02


def test_weights_from_another_grid():
    mixer = LinformerAttention(8, 2, grid=GRID, num_prefix=0, projected=3)
    torch.manual_seed(0)
    other = torch.randn(1 + 36, 3)  # a class token and 6 x 6
    fitted = mixer.adapt_weight('projection', other)
    source = LinformerAttention(8, 2, grid=(6, 6), num_prefix=1, projected=3)
    source.projection.data = other
    torch.testing.assert_close(fitted, source._projection_for(21, GRID)[1:])
    assert mixer.adapt_weight('projection', torch.randn(36, 4)) is None  # another number of columns
    assert mixer.adapt_weight('projection', torch.randn(35, 3)) is None  # no square
    assert mixer.adapt_weight('k.weight', torch.randn(36, 3)) is None


def test_wrong_input():
    with pytest.raises(InputError, match='linformer projected=0 is not at least 1'):
        LinformerAttention(8, 2, grid=GRID, projected=0)
    mixer = LinformerAttention(8, 2, grid=GRID, num_prefix=1)
    with pytest.raises(InputError, match=r'linformer got 20 tokens, not 1 \+ 4 x 5; pass the size'):
        mixer(torch.zeros(1, 20, 8))
    with pytest.raises(InputError, match=r'linformer got 21 tokens, not 1 \+ 6 x 6'):
        mixer(torch.zeros(1, 21, 8), size=(6, 6))
