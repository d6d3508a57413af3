"""The stand-ins for CARAFE, masked convolution and PSA masks against their definitions, written out with loops."""

import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xvit_det.compat import mmcv_ext as ours

mmcv_ops = pytest.importorskip('mmcv.ops', reason='mmcv is not installed')


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """Our ops, also where mmcv has compiled ones."""
    torch.manual_seed(0)
    for name in ('carafe', 'masked_conv', 'psa_mask'):
        monkeypatch.setattr(importlib.import_module(f'mmcv.ops.{name}'), 'ext_module', ours)


class TestCARAFE:
    SIZES = [(3, 1, 2), (5, 2, 2), (3, 2, 3)]  # kernel, groups, scale

    @staticmethod
    def inputs(k: int, groups: int, scale: int) -> tuple[Tensor, Tensor]:
        features = torch.randn(2, 4, 3, 5, dtype=torch.float64)
        masks = torch.randn(2, groups * k * k, 3 * scale, 5 * scale, dtype=torch.float64)
        return features.requires_grad_(), masks.requires_grad_()

    @pytest.mark.parametrize('sizes', SIZES)
    def test_definition(self, sizes):
        """A pixel of the output is the sum over the neighbours of its source pixel, weighted by its own kernel."""
        (k, groups, scale), (features, masks) = sizes, self.inputs(*sizes)
        out = mmcv_ops.carafe(features, masks, *sizes)
        expected = torch.zeros_like(out)
        for b, c, y, x, i, j in np.ndindex(*out.shape, k, k):
            at = y // scale + i - k // 2, x // scale + j - k // 2
            if 0 <= at[0] < 3 and 0 <= at[1] < 5:
                group = c // (4 // groups)
                expected[b, c, y, x] += features[(b, c, *at)].item() * masks[b, (group * k + i) * k + j, y, x].item()
        assert torch.allclose(out, expected)

    @pytest.mark.parametrize('sizes', SIZES)
    def test_gradient(self, sizes):
        assert torch.autograd.gradcheck(lambda *x: mmcv_ops.carafe(*x, *sizes), self.inputs(*sizes), fast_mode=True)

    def test_bfloat16(self):
        features, masks = (x.detach().bfloat16().requires_grad_() for x in self.inputs(3, 1, 2))
        out = mmcv_ops.carafe(features, masks, 3, 1, 2)
        out.sum().backward()
        assert out.dtype == features.grad.dtype == masks.grad.dtype == torch.bfloat16

    def test_the_layer_upsamples(self):
        layer = mmcv_ops.CARAFEPack(8, scale_factor=2)
        assert layer(torch.randn(1, 8, 6, 7)).shape == (1, 8, 12, 14)


class TestMaskedConv:
    @pytest.mark.parametrize(('kernel', 'padding'), [((3, 3), (1, 1)), ((1, 1), (0, 0)), ((5, 3), (2, 1))])
    def test_is_a_convolution_where_the_mask_is_set(self, kernel, padding):
        x, mask = torch.randn(1, 4, 9, 7), torch.rand(1, 9, 7) < 0.4
        weight, bias = torch.randn(6, 4, *kernel), torch.randn(6)
        expected = F.conv2d(x, weight, bias, padding=padding) * mask
        out = mmcv_ops.masked_conv2d(x, mask.float(), weight, bias, padding)
        assert torch.allclose(out, expected, atol=1e-5)

    def test_nothing_chosen(self):
        out = mmcv_ops.masked_conv2d(
            torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4), torch.ones(2, 2, 1, 1), torch.ones(2)
        )
        assert not out.any()


class TestPSAMask:
    SIZES = [((5, 7), (3, 4)), ((3, 3), (5, 4)), ((4, 2), (3, 3))]  # of the mask and the map

    @pytest.mark.parametrize('kind', ['collect', 'distribute'])
    @pytest.mark.parametrize(('size', 'map_size'), SIZES)
    def test_definition(self, kind, size, map_size):
        """The entry (i, j) of the mask at (h, w) speaks of the position (h + i - half, w + j - half)."""
        (rows, columns), (H, W) = size, map_size
        mask = torch.randn(2, rows * columns, H, W)
        expected = torch.zeros(2, H * W, H, W)
        for i, j, h, w in np.ndindex(rows, columns, H, W):
            y, x = h + i - (rows - 1) // 2, w + j - (columns - 1) // 2
            if 0 <= y < H and 0 <= x < W:
                source, target = (y * W + x, (h, w)) if kind == 'collect' else (h * W + w, (y, x))
                expected[(slice(None), source, *target)] = mask[:, i * columns + j, h, w]
        assert torch.equal(mmcv_ops.PSAMask(kind, size)(mask), expected)

    @pytest.mark.parametrize('kind', ['collect', 'distribute'])
    def test_gradient(self, kind):
        mask = torch.randn(1, 15, 4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(mmcv_ops.PSAMask(kind, (3, 5)), mask)
