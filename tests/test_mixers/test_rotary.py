"""Rotary positions against the package rotary-embedding-torch, and what they are for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rotary_embedding_torch import RotaryEmbedding

from xvit_det.errors import InputError
from xvit_det.mixers import RotaryPosition


@pytest.mark.parametrize('dims', [4, 6, 32])
def test_equals_the_package(dims):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 100, dims)
    expected = RotaryEmbedding(dims).rotate_queries_or_keys(x)
    torch.testing.assert_close(RotaryPosition(dims)(x), expected, rtol=1e-5, atol=2e-5)


def test_a_pair_of_channels_is_turned_by_its_angle():
    """Channels 2i and 2i + 1 as a complex number, times exp(i·p·10000^(-2i/d))."""
    torch.manual_seed(0)
    x = torch.randn(1, 1, 9, 8)
    angles = torch.arange(9)[:, None] * 10000 ** (-torch.arange(0, 8, 2) / 8)
    turned = torch.view_as_complex(x.unflatten(-1, (4, 2))) * torch.polar(torch.ones(9, 4), angles)
    torch.testing.assert_close(RotaryPosition(8)(x), torch.view_as_real(turned).flatten(-2))


@settings(max_examples=20, deadline=None)
@given(near=st.integers(0, 20), shift=st.integers(0, 40), distance=st.integers(0, 20), seed=st.integers(0, 99))
def test_dot_products_depend_on_the_distance_only(near, shift, distance, seed):
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(seed)).expand(2, 1, 1, 100, 8).unbind()
    position = RotaryPosition(8)
    products = (position(q) @ position(k).mT)[0, 0]  # the same query and key everywhere
    moved = near + shift
    torch.testing.assert_close(products[near, near + distance], products[moved, moved + distance], rtol=1e-4, atol=1e-4)


def test_axial_dot_products_depend_on_the_distances_of_rows_and_columns_only():
    torch.manual_seed(0)
    h, w = 5, 7
    q, k = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 1, 1 + h * w, 8).unbind()
    position = RotaryPosition(8, axial=True)
    turned_q, turned_k = position(q, (h, w)), position(k, (h, w))
    torch.testing.assert_close(turned_q[..., 0, :], q[..., 0, :])  # a class token is not turned
    products = (turned_q[0, 0, 1:] @ turned_k[0, 0, 1:].T).reshape(h, w, h, w)
    seen = {}
    for y in range(h):
        for x in range(w):
            for v in range(h):
                for u in range(w):
                    first = seen.setdefault((v - y, u - x), products[y, x, v, u])
                    assert abs(products[y, x, v, u] - first) < 1e-4
    assert len({round(float(value), 3) for value in seen.values()}) > len(seen) // 2  # and do depend on them
    # A row of the grid is turned as a sequence is, in the second half of the channels.
    row = position(q[:, :, : 1 + w], (1, w))[0, 0, 1:, 4:]
    torch.testing.assert_close(row, RotaryPosition(4)(q[..., 1 : 1 + w, 4:])[0, 0])


def test_lengths_stay():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 1 + 4 * 6, 12)
    torch.testing.assert_close(RotaryPosition(12)(x).norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(RotaryPosition(12, axial=True)(x, (4, 6)).norm(dim=-1), x.norm(dim=-1))


def test_wrong_input():
    with pytest.raises(InputError, match='^rotary position needs head_dims divisible by 2, not 7'):
        RotaryPosition(7)
    with pytest.raises(InputError, match='axial rotary position needs head_dims divisible by 4, not 6'):
        RotaryPosition(6, axial=True)
    with pytest.raises(InputError, match=r'axial rotary position needs the size \(h, w\)'):
        RotaryPosition(8, axial=True)(torch.zeros(1, 1, 4, 8))
