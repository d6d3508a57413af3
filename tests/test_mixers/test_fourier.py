"""Fourier mixing against products with the transforms' matrices."""

import math

import pytest
import torch

from xvit_det.mixers import FourierMixer
from xvit_det.mixers.fourier import transform_by_axes


def dft(n):
    """The matrix of the discrete Fourier transform, entry by entry."""
    powers = torch.arange(n, dtype=torch.float64)[:, None] * torch.arange(n, dtype=torch.float64)
    return torch.exp(-2j * math.pi * powers / n)


@pytest.mark.parametrize('tokens', [1, 8, 17])
def test_equals_its_definition(tokens):
    torch.manual_seed(0)
    x = torch.randn(2, tokens, 6, dtype=torch.float64)
    torch.testing.assert_close(FourierMixer(6)(x), (dft(tokens) @ x.to(torch.complex128) @ dft(6)).real)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_of_1025_tokens(dtype):
    torch.manual_seed(0)
    x = torch.randn(1, 1025, 8).to(dtype)
    out = FourierMixer(8)(x)
    exact = (dft(1025) @ x.to(torch.complex128) @ dft(8)).real
    assert out.dtype == dtype
    assert (out.double() - exact).norm() < (1e-3 if dtype == torch.float16 else 5e-3) * exact.norm()


def test_has_no_parameters():
    assert not list(FourierMixer(6).parameters())


@pytest.mark.parametrize('size', [(1, 1), (4, 4), (3, 7), (50, 84)])
def test_by_axes_for_export(size):
    """The products that exported models compute equal the transform, and are what is exported."""
    torch.manual_seed(0)
    x = torch.randn(2, size[0] * size[1], 6)
    mixer = FourierMixer(6)
    expected = mixer(x, size=size)
    assert (transform_by_axes(x, *size) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_exports_without_fft():
    program = torch.export.export(FourierMixer(6), (torch.randn(2, 12, 6),), dict(size=(3, 4)), strict=False)
    assert 'fft' not in program.graph_module.code
