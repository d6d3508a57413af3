"""Convolutions in place of a patch embedding."""

import torch
from torch import Tensor, nn

from xvit_det.layers.norm import build_norm
from xvit_det.layers.padding import ImageExtents, zero_padding_


class ConvStem(nn.Module):
    """Convolutions 3x3 of stride 2, each with a norm, GELU between: (B, 3, H, W) -> (B, C, ⌈H/s⌉, ⌈W/s⌉).

    The widths double up to ``embed_dims``: C/8, C/4, C/2, C for stride 16.

    Args:
        in_channels: Channels of the image.
        embed_dims: Width C of the result.
        stride: Total stride s, a power of two.
        norm_cfg: See :func:`build_norm`.

    Raises:
        ValueError: ``stride`` is not a power of two, or ``embed_dims`` cannot be halved that often.
    """

    def __init__(self, in_channels: int, embed_dims: int, stride: int, norm_cfg: dict) -> None:
        super().__init__()
        depth = stride.bit_length() - 1
        if stride != 2**depth or depth < 1:
            raise ValueError(f'stem stride {stride} is not a power of two from 2 on')
        if embed_dims % 2 ** (depth - 1):
            raise ValueError(f'embed_dims={embed_dims} is not a multiple of {2 ** (depth - 1)}, as the stem needs')
        widths = [in_channels, *(embed_dims >> i for i in reversed(range(depth)))]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(build_norm(norm_cfg, width) for width in widths[1:])
        self.act = nn.GELU()

    def forward(self, x: Tensor, extents: ImageExtents | None = None) -> Tensor:
        """Embed images.

        Args:
            x: Images (B, in_channels, H, W).
            extents: Which part of the batch each image covers. The rest must be zero, and is made so again before
                every further convolution.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        for level, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if level > 0:
                x = zero_padding_(self.act(x), extents, stride=2**level)
            x = norm(conv(x))
        return x
