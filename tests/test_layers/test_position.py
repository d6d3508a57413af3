"""Learned positions: a table for one grid of tokens, resampled for others."""

import pytest
import torch
from torch.nn.functional import interpolate

from xvit_det.layers import LearnedPosition


def test_on_its_own_grid_the_table_is_given_as_it_is():
    position = LearnedPosition(6, (3, 4), num_prefix=1)
    assert position((3, 4)) is position.table
    assert position.table.shape == (1, 13, 6)


@pytest.mark.parametrize('num_prefix', [0, 1])
@pytest.mark.parametrize('size', [(6, 8), (2, 7), (1, 1)])
def test_on_another_grid_each_channel_is_a_resampled_map(num_prefix, size):
    torch.manual_seed(0)
    position = LearnedPosition(5, (3, 4), num_prefix)
    out = position(size)
    assert out.shape == (1, num_prefix + size[0] * size[1], 5)
    assert torch.equal(out[:, :num_prefix], position.table[:, :num_prefix])
    for channel in range(5):
        grid = position.table[0, num_prefix:, channel].reshape(1, 1, 3, 4)
        expected = interpolate(grid, size=size, mode='bicubic', align_corners=False)
        torch.testing.assert_close(out[0, num_prefix:, channel], expected.flatten())


def test_the_table_learns_from_other_grids():
    position = LearnedPosition(5, (3, 4), num_prefix=1)
    position((7, 5)).square().sum().backward()
    assert (position.table.grad.abs().sum(dim=-1) > 0).all()


def test_a_constant_table_stays_constant():
    position = LearnedPosition(2, (3, 4))
    torch.nn.init.constant_(position.table, 0.5)
    torch.testing.assert_close(position((9, 5)), torch.full((1, 45, 2), 0.5))


def test_start_values():
    torch.manual_seed(0)
    whole = LearnedPosition(64, (16, 16), std=0.02).table
    assert whole.std().item() == pytest.approx(0.02, rel=0.05)
    cut = LearnedPosition(64, (16, 16), std=1.0, truncated=True).table
    assert cut.abs().max() <= 2 < LearnedPosition(64, (16, 16), std=1.0).table.abs().max()


def test_what_fits_from_a_checkpoint():
    position = LearnedPosition(2, (4, 4))
    rows = torch.randn(1, 10, 2)  # a class token and 3 x 3
    expected = LearnedPosition(2, (3, 3))
    expected.table.data = rows[:, 1:]
    torch.testing.assert_close(position.adapt_weight('table', rows), expected((4, 4)).data)
    torch.testing.assert_close(position.adapt_weight('table', rows[:, 1:]), expected((4, 4)).data)
    for wrong in (torch.randn(1, 12, 2), torch.randn(1, 9, 3), torch.randn(9, 2), torch.randn(2, 9, 2)):
        assert position.adapt_weight('table', wrong) is None
    assert position.adapt_weight('other', rows) is None
    with_class = LearnedPosition(2, (4, 4), num_prefix=1)
    assert torch.equal(with_class.adapt_weight('table', rows)[:, 0], rows[:, 0])
    assert with_class.adapt_weight('table', rows[:, 1:]) is None, 'a class token is not made up'
