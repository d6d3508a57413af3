"""Stems: from an image to the first feature map.

Each takes the images (B, in_channels, H, W), and optionally the area that each one covers in a padded batch. The rest
must be zero, and is zeroed again before each layer that sees more than one position, so that it looks like the area
around the batch. A stem of one such layer has nothing to zero.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.errors import InputError
from xvit_det.functional import pad_amount
from xvit_det.layers.gelu import InplaceGELU
from xvit_det.layers.norm import build_norm, fold_norm
from xvit_det.layers.padding import ImageExtents, zero_padding_
from xvit_det.layers.pooling import max_pool


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2, each with a norm, and GELU in between: (B, 3, H, W) -> (B, C, ⌈H/s⌉, ⌈W/s⌉).

    The widths double up to ``embed_dims``: C/8, C/4, C/2, C for stride 16.

    Args:
        in_channels: Channels of the image.
        embed_dims: Output channels C.
        stride: Total stride s, a power of two.
        norm_cfg: See :func:`build_norm`.

    Raises:
        InputError: ``stride`` is not a power of two, or ``embed_dims`` is not divisible by the halvings.
    """

    def __init__(self, in_channels: int, embed_dims: int, stride: int, norm_cfg: dict) -> None:
        super().__init__()
        depth = stride.bit_length() - 1
        if stride != 2**depth or depth < 1:
            raise InputError(f'stem stride {stride} is not a power of two of at least 2')
        if embed_dims % 2 ** (depth - 1):
            raise InputError(f'embed_dims={embed_dims} is not a multiple of {2 ** (depth - 1)}, as the stem needs')
        widths = [in_channels, *(embed_dims >> i for i in reversed(range(depth)))]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(build_norm(norm_cfg, width) for width in widths[1:])
        self.act = InplaceGELU()

    def forward(self, x: Tensor, extents: ImageExtents | None = None) -> Tensor:
        """Embed images.

        Args:
            x: Images (B, in_channels, H, W).
            extents: The area that each image covers. The rest must be zero, and is zeroed again before each later
                convolution.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        for level, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if level > 0:
                x = zero_padding_(self.act(x), extents, stride=2**level)
            x = norm(conv(x))
        return x

    def fold(self) -> 'ConvStem':
        """Fold every norm into the convolution before it."""
        for level, conv in enumerate(self.convs):
            assert isinstance(conv, nn.Conv2d)
            self.norms[level] = fold_norm(conv, self.norms[level])
        return self


class PatchEmbed(nn.Module):
    """Cut the image into p x p patches and map each linearly: (B, 3, H, W) -> (B, C, ⌈H/p⌉, ⌈W/p⌉).

    A patch's vector is ordered (row, column, channel), channel fastest. Images whose sides are not
    multiples of p are padded with zeros.

    Args:
        in_channels: Channels of the image.
        embed_dims: Output channels C.
        stride: Side p of a patch, in pixels.
    """

    def __init__(self, in_channels: int, embed_dims: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.proj = nn.Linear(stride * stride * in_channels, embed_dims)

    def forward(self, x: Tensor, extents: ImageExtents | None = None) -> Tensor:
        p = self.stride
        x = F.pad(x, (0, pad_amount(x.shape[3], p), 0, pad_amount(x.shape[2], p)))
        x = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))  # (B, c, H, W) -> (B, c, h, p, w, p)
        x = x.permute(0, 2, 4, 3, 5, 1).flatten(3)  # -> (B, h, w, p·p·c)
        return self.proj(x).permute(0, 3, 1, 2)


class OverlapPatchEmbed(nn.Module):
    """One convolution with a kernel of twice its stride: patches that overlap by half, as in PiT.

    Args: as :class:`PatchEmbed`.
    """

    def __init__(self, in_channels: int, embed_dims: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.proj = nn.Conv2d(in_channels, embed_dims, 2 * stride, stride=stride)

    def forward(self, x: Tensor, extents: ImageExtents | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, C, ⌈H/p⌉, ⌈W/p⌉)."""
        p = self.stride
        before, after = p // 2, p - p // 2  # half a patch around the image, and what the last patches lack
        x = F.pad(x, (before, pad_amount(x.shape[3], p) + after, before, pad_amount(x.shape[2], p) + after))
        return self.proj(x.contiguous(memory_format=torch.channels_last))


class PatchNormEmbed(nn.Module):
    """Patch embedding, GELU and LayerNorm: the stem of the hybrid ImageNet model in the ViX code.

    Args: as :class:`PatchEmbed`.
    """

    def __init__(self, in_channels: int, embed_dims: int, stride: int) -> None:
        super().__init__()
        self.patches = PatchEmbed(in_channels, embed_dims, stride)
        self.act = InplaceGELU()
        self.norm = nn.LayerNorm(embed_dims)

    def forward(self, x: Tensor, extents: ImageExtents | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, C, ⌈H/p⌉, ⌈W/p⌉)."""
        x = self.patches(x).permute(0, 2, 3, 1)  # (B, C, h, w) -> (B, h, w, C), a view
        return self.norm(self.act(x)).permute(0, 3, 1, 2)


class PlainConvStem(nn.Sequential):
    """Three 3x3 convolutions without norms or activations: the hybrid stem of the ViX paper.

    The widths are C/4, C/2, C; the first ones have stride 2 until the total stride is reached.

    Args:
        in_channels: Channels of the image.
        embed_dims: Output channels C.
        stride: Total stride: 1, 2, 4 or 8.

    Raises:
        InputError: Another stride, or a width that is not a multiple of 4.
    """

    def __init__(self, in_channels: int, embed_dims: int, stride: int) -> None:
        if stride not in (1, 2, 4, 8):
            raise InputError(
                f'stem conv has a stride of 1, 2, 4 or 8, not {stride}; use stem deep_conv for larger ones'
            )
        if embed_dims % 4:
            raise InputError(f'embed_dims={embed_dims} is not a multiple of 4, as stem conv needs')
        widths = (in_channels, embed_dims // 4, embed_dims // 2, embed_dims)
        super().__init__(
            *(nn.Conv2d(widths[i], widths[i + 1], 3, stride=2 if stride > 2**i else 1, padding=1) for i in range(3))
        )

    def forward(self, x: Tensor, extents: ImageExtents | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, C, ⌈H/s⌉, ⌈W/s⌉)."""
        x = x.contiguous(memory_format=torch.channels_last)
        stride = 1
        for level, conv in enumerate(self):
            assert isinstance(conv, nn.Conv2d)
            x = conv(x if level == 0 else zero_padding_(x, extents, stride))
            stride *= conv.stride[0]
        return x


class ConvTokenizer(nn.Module):
    """Repeated convolution, ReLU and max-pooling: the tokenizer of CCT (arXiv 2104.05704).

    Args:
        in_channels: Channels of the image.
        widths: Channels after each convolution.
        kernel: Side of the convolutions.
        strides: Stride of each convolution.
        pool_stride: Stride of every max-pooling.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], kernel: int, strides: Sequence[int], pool_stride: int
    ) -> None:
        super().__init__()
        ins = (in_channels, *widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, kernel, stride=stride, padding=kernel // 2, bias=False)
            for a, b, stride in zip(ins, widths, strides, strict=False)
        )
        self.pool_stride = pool_stride

    def forward(self, x: Tensor, extents: ImageExtents | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w), every stride rounding up."""
        x = x.contiguous(memory_format=torch.channels_last)
        stride = 1
        for level, conv in enumerate(self.convs):
            assert isinstance(conv, nn.Conv2d)
            x = conv(x if level == 0 else zero_padding_(x, extents, stride))
            stride *= conv.stride[0]
            # Zeroed before the ReLU, whose backward pass needs its output. Beside other values, which are not negative,
            # a zero has no effect on a maximum.
            x = max_pool(zero_padding_(x, extents, stride).relu_(), 3, self.pool_stride, padding=1)
            stride *= self.pool_stride
        return x


# The choices of ``stem=``, called with image channels, width and stride. 'conv' is the ViX paper's hybrid stem, of
# stride 8 at most; 'deep_conv' is X-ViT's, with norms and GELU, of stride 2 or more.
STEMS: dict[str, Callable[..., nn.Module]] = {
    'patch': PatchEmbed,
    'conv': PlainConvStem,
    'deep_conv': ConvStem,
    'patch_norm': PatchNormEmbed,
    'overlap': OverlapPatchEmbed,
}


def build_stem(stem: str, in_channels: int, embed_dims: int, stride: int, norm_cfg: dict) -> nn.Module:
    """Build a stem by its name in ``STEMS``.

    Raises:
        InputError: An unknown name; the message lists the known ones.
    """
    if stem not in STEMS:
        raise InputError(f'stem {stem!r} is not one of {", ".join(STEMS)}')
    options = dict(norm_cfg=norm_cfg) if stem == 'deep_conv' else {}
    return STEMS[stem](in_channels, embed_dims, stride, **options)
