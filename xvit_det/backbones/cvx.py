"""CvX: stages that each begin with a convolution, after CvT.

"Vision Xformers" (arXiv 2107.02239), Tables 3 and 4; "CvT: Introducing Convolutions to Vision Transformers" (arXiv
2103.15808), Section 3, for its embedding and its attention.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.backbones.staged import StagedBackbone
from xvit_det.errors import InputError
from xvit_det.functional import map_to_tokens, merge_heads, split_heads, split_parts, tokens_to_map
from xvit_det.layers import ChannelNorm, ImageExtents, build_norm
from xvit_det.layers.norm import fold_norm
from xvit_det.mixers import MIXERS, TokenMixer
from xvit_det.mixers.base import resolve_head_dims


class ConvProjection(nn.Module):
    """A depthwise 3x3 convolution with a norm, then a linear layer without bias.

    Args:
        embed_dims: Width C of the tokens.
        out_dims: Output width C'.
        norm_cfg: See :func:`xvit_det.layers.build_norm`.
    """

    def __init__(self, embed_dims: int, out_dims: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims, bias=False)
        self.norm = build_norm(norm_cfg, embed_dims)
        self.linear = nn.Linear(embed_dims, out_dims, bias=False)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, h·w, C), (h, w) -> (B, h·w, C')."""
        return self.linear(map_to_tokens(self.norm(self.conv(tokens_to_map(x, size)))))

    def fold(self) -> 'ConvProjection':
        """Fold the norm into the convolution."""
        self.norm = fold_norm(self.conv, self.norm)
        return self


class CvTAttention(TokenMixer):
    """Softmax attention with convolutional projections, one for queries and one for keys and values.

    Args:
        embed_dims: Width C of the tokens.
        num_heads: Number of heads H.
        head_dims: Channels d of each head; ``None``: C / H.
        norm_cfg: See :func:`xvit_det.layers.build_norm`; ``None``: BatchNorm.
    """

    def __init__(
        self, embed_dims: int, num_heads: int = 8, head_dims: int | None = None, *, norm_cfg: dict | None = None
    ) -> None:
        super().__init__(embed_dims)
        inner = num_heads * resolve_head_dims(embed_dims, num_heads, head_dims)
        norm_cfg = norm_cfg or dict(type='BN')
        self.num_heads = num_heads
        self.q = ConvProjection(embed_dims, inner, norm_cfg)
        self.kv = ConvProjection(embed_dims, 2 * inner, norm_cfg)
        self.proj = nn.Linear(inner, embed_dims)

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        if size is None or size[0] * size[1] != x.shape[1]:
            raise InputError(f'CvT attention needs the size (h, w) of its {x.shape[1]} tokens, not {size}')
        mask = None
        if valid is not None:
            x = x.masked_fill(~valid[..., None].bool(), 0)  # for the convolutions, like the area around the map
            mask = valid[:, None, None].bool()  # (B, N) -> (B, 1, 1, N)
        q = split_heads(self.q(x, size), self.num_heads)
        k, v = split_parts(self.kv(x, size), self.num_heads, 2)
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))


class ConvEmbed(nn.Module):
    """A convolution and a channel norm: the entry of every stage.

    Args:
        in_dims: Input channels.
        embed_dims: Width C of the tokens.
        kernel: Kernel size.
        stride: Its stride.
    """

    def __init__(self, in_dims: int, embed_dims: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dims, embed_dims, kernel, stride=stride, padding=kernel // 2)
        self.norm = ChannelNorm(embed_dims)

    def forward(
        self, x: Tensor, size: tuple[int, int] | None, extents: ImageExtents | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """Image (B, 3, H, W) without a size, or tokens (B, h·w, C') with theirs -> tokens (B, N, C) and their size."""
        image = x.contiguous(memory_format=torch.channels_last) if size is None else tokens_to_map(x, size)
        features = self.conv(image)
        return self.norm(map_to_tokens(features)), tuple(features.shape[-2:])


class CvX(StagedBackbone):
    """CvT's layout with any token mixer; ``mixer='softmax'`` is CvT's own attention.

    Args:
        arch: ``'paper'`` for CIFAR-10 and Tiny ImageNet, ``'cvt_13'`` as CvT-13; or a dict with the same keys, of which
            ``kernels`` are the kernel sizes of the stages' convolutions, and ``later_stride`` is the stride of all but
            the first.
        mixer: See :class:`xvit_det.ViX`. The paper's CvT has heads twice as wide as the others:
            ``dict(type='softmax', head_dims=64)``.
        img_size: Image side in pixels, or (height, width), that position tables and Linformer are made for.
        patch_size: Stride of the first stage's tokens, in pixels.
        in_channels: Channels of the image.
        out_type: ``'pyramid'``, ``'featmap'``, ``'cls_token'`` (the mean of the tokens) or ``'avg_featmap'``.
        out_indices: Blocks to read, counted through all stages; ``None``: the arch's for the pyramid, else the last.
        out_strides: Strides of the pyramid's maps, such as ``(8, 16, 32)`` or ``32``; ``None``: 4, 8, 16, 32.
        drop_path_rate: Probability of skipping a branch in training at the last block; it grows linearly from 0.
        frozen_stages: -1: nothing is frozen; 0: the stem; k: the stem and the first k blocks.
        norm_eval: Keep BatchNorm layers in evaluation mode while training.
        mask_padding: Mask the padding of a batch, where the mixer can, see :class:`StagedBackbone`.
        with_cp: Recompute activations in the backward pass to save memory.
        norm_cfg: Norm of the convolutions that have one: ``BN``, ``SyncBN`` or ``GN``.
        init_cfg: OpenMMLab's initialisation; ``dict(type='Pretrained', checkpoint=...)`` loads weights.

    Raises:
        InputError: A value that is not one of the choices; the message lists them.
    """

    arch_zoo = {
        'paper': dict(
            embed_dims=(128, 128, 128),
            depths=(1, 1, 2),
            num_heads=(4, 4, 4),
            head_dims=32,
            hidden_dims=(256, 256, 256),
            pyramid_indices=(0, 1, 2, 3),
            kernels=(3, 3, 3),
            later_stride=1,
        ),
        'cvt_13': dict(
            embed_dims=(64, 192, 384),
            depths=(1, 2, 10),
            num_heads=(1, 3, 6),
            head_dims=64,
            hidden_dims=(256, 768, 1536),
            pyramid_indices=(0, 2, 7, 12),
            kernels=(7, 3, 3),
            later_stride=2,
        ),
    }
    mixers = ChainMap({'softmax': CvTAttention}, MIXERS)

    per_stage = (*StagedBackbone.per_stage, 'kernels')

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any] = 'cvt_13',
        mixer: str | Mapping[str, Any] = 'nystrom',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_channels: int = 3,
        out_type: str = 'pyramid',
        out_indices: int | Sequence[int] | None = None,
        out_strides: int | Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        mask_padding: bool = False,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            arch=arch,
            mixer=mixer,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            out_type=out_type,
            out_indices=out_indices,
            out_strides=out_strides,
            drop_path_rate=drop_path_rate,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            mask_padding=mask_padding,
            with_cp=with_cp,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
        )

    def _stride(self, stage: int) -> int:
        return self.patch_size * self.arch['later_stride'] ** stage

    def _entry(self, stage: int) -> nn.Module:
        widths = (self.in_channels, *self.arch['embed_dims'])
        stride = self.patch_size if stage == 0 else self.arch['later_stride']
        return ConvEmbed(widths[stage], widths[stage + 1], self.arch['kernels'][stage], stride)

    def _norm(self, channels: int) -> nn.Module:
        return ChannelNorm(channels)

    def _final_norm(self, channels: int) -> nn.Module:
        return nn.Identity()
