"""Where images end in a padded batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xvit_det.layers import ImageExtents
from xvit_det.layers.padding import zero_padding_


def padded_batch(sizes, height, width):
    x = torch.zeros(len(sizes), 3, height, width)
    for image, (h, w) in zip(x, sizes, strict=True):
        image[:, :h, :w] = torch.rand(3, h, w) + 0.1
    return x


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_extents_are_found_by_the_zeros(sizes):
    extents = ImageExtents.from_zeros(padded_batch(sizes, 20, 20))
    assert extents.sizes.tolist() == [list(s) for s in sizes]
    assert extents.at_stride(16).tolist() == [[-(-h // 16), -(-w // 16)] for h, w in sizes]


def test_zero_pixels_inside_an_image_are_not_padding():
    x = padded_batch([(6, 8)], 8, 8)
    x[:, :, 2:4] = 0
    x[:, :, :, 0] = 0
    assert ImageExtents.from_zeros(x).sizes.tolist() == [[6, 8]]


def test_a_blank_image_counts_as_whole():
    assert ImageExtents.from_zeros(torch.zeros(2, 3, 8, 12)).sizes.tolist() == [[8, 12], [8, 12]]


def test_masks():
    extents = ImageExtents(torch.tensor([[17, 40], [32, 33]]))
    mask = extents.mask((2, 3), stride=16)
    assert mask is None, '17 rows and 33 columns reach into the last patches'
    mask = extents.mask((4, 6), stride=8)
    assert mask[0, 0].tolist() == [[True] * 5 + [False]] * 3 + [[False] * 6]
    assert mask[1, 0].tolist() == [[True] * 5 + [False]] * 4


@pytest.mark.parametrize('stride, masked', [(1, True), (2, True), (16, False)])
def test_no_mask_where_nothing_is_padded(stride, masked):
    extents = ImageExtents(torch.tensor([[32, 46]]))
    size = (32 // stride, 48 // stride)
    x = torch.ones(1, 2, *size)
    assert (extents.mask(size, stride) is None) != masked
    assert zero_padding_(x, None, stride) is x and (x == 1).all()
    assert zero_padding_(x, extents, stride) is x
    assert (x[..., 46 // stride + (46 % stride > 0) :] == 0).all() and x.sum() == 2 * size[0] * -(-46 // stride)
