"""Fourier mixing: a fixed transform in place of attention, without parameters.

"FNet: Mixing Tokens with Fourier Transforms" (arXiv 2105.03824), Equation 3.
"""

import torch
from torch import Tensor

from xvit_det.errors import InputError
from xvit_det.functional import upcast
from xvit_det.mixers.base import TokenMixer


class FourierMixer(TokenMixer):
    """The real part of the Fourier transform over tokens and channels, unnormalised.

    It is computed in float32: in half precision, GPUs support only powers of two, not 1025 tokens.

    Args:
        embed_dims: Width C of the tokens.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        if valid is not None:
            raise InputError('fourier cannot mask padded tokens: every output is a sum over all tokens')
        return torch.fft.fft2(upcast(x)).real.to(x.dtype)
