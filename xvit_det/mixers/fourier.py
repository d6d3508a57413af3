"""Fourier mixing: a fixed transform in place of attention, without parameters.

"FNet: Mixing Tokens with Fourier Transforms" (arXiv 2105.03824), Equation 3.
"""

import math

import torch
from torch import Tensor

from xvit_det.errors import InputError
from xvit_det.functional import upcast
from xvit_det.kernels import is_exporting
from xvit_det.mixers.base import TokenMixer


class FourierMixer(TokenMixer):
    """The real part of the Fourier transform over tokens and channels, unnormalised.

    It is computed in float32: in half precision, GPUs support only powers of two, not 1025 tokens.

    Args:
        embed_dims: Width C of the tokens.
    """

    feels_padding = 'every output is a sum over all tokens'

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        if valid is not None:
            raise InputError(f'fourier cannot mask padded tokens: {self.feels_padding}')
        grid = size if is_exporting() and not torch.jit.is_tracing() else None
        if grid and grid[0] * grid[1] == x.shape[1]:
            return transform_by_axes(upcast(x), *grid).to(x.dtype)
        return torch.fft.fft2(upcast(x)).real.to(x.dtype)


def transform_by_axes(x: Tensor, height: int, width: int) -> Tensor:
    """The real part of the Fourier transform of tokens (B, h·w, C), by products along the map's axes and the channels.

    For export: onnxruntime computes a transform whose length is no power of two as one sum over all tokens, with an
    error of 1e-3 for 4,200 of them. Token w·i + j adds to frequency p + h·q with the angle -2π (ip/h + jp/hw + jq/w),
    as Cooley and Tukey found.
    """
    # Over the channels: a real input, so the product with cos and sin are the parts of the complex one.
    cos, sin = _waves(x.shape[2], x)
    real, imag = (x @ part for part in (cos, -sin))
    # (B, h·w, C) -> (B, h, w·C): over i
    real, imag = (part.unflatten(1, (height, width)).flatten(2) for part in (real, imag))
    cos, sin = _waves(height, x)
    real, imag = cos @ real + sin @ imag, cos @ imag - sin @ real
    # (B, h, w·C) -> (B, h, w, C): between the two
    real, imag = (part.unflatten(2, (width, -1)) for part in (real, imag))
    angle = _outer(height, width, x) * (2 * math.pi / (height * width))
    cos, sin = angle.cos()[..., None], angle.sin()[..., None]
    real, imag = cos * real + sin * imag, cos * imag - sin * real
    cos, sin = _waves(width, x)  # over j
    return (cos @ real + sin @ imag).transpose(1, 2).flatten(1, 2)  # (B, h, w, C) -> (B, w, h, C) -> (B, N, C)


def _waves(length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2π jk / length, (length, length)."""
    angle = _outer(length, length, like).remainder(length) * (2 * math.pi / length)
    return angle.cos(), angle.sin()


def _outer(rows: int, columns: int, like: Tensor) -> Tensor:
    """The products of row and column numbers (rows, columns), exact below 2^24."""
    row, column = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (rows, columns))
    return row[:, None] * column
