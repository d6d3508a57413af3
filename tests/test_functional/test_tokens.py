"""Tokens as maps, which convolutions must take without copying."""

import pytest
import torch
from torch import nn

from xvit_det.functional import map_to_tokens, tokens_to_map


@pytest.mark.parametrize('batch', [1, 2])
def test_convolutions_see_a_channels_last_map(batch):
    m = tokens_to_map(torch.randn(batch, 12, 8), (3, 4))
    # A dimension of one may have any stride, but convolutions choose their layout by it.
    assert m.stride() == (96, 1, 32, 8)
    for conv in (nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ConvTranspose2d(8, 8, 2, stride=2)):
        out = conv(m)
        assert out.is_contiguous(memory_format=torch.channels_last) and not out.is_contiguous()
        assert map_to_tokens(out).is_contiguous() and map_to_tokens(out).data_ptr() == out.data_ptr()
