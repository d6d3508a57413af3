"""X-ViT: a vision transformer whose attention is linear in the number of tokens.

"X-ViT: High Performance Linear Vision Transformer without Softmax" (arXiv 2109.14382, first called UFO-ViT). The paper
does not give depth, widths and heads, and no code was released: ``arch_zoo`` holds the only configuration our search
found that reproduces all 13 published parameter and operation counts. Its narrow attention width is part of that.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from xvit_det.backbones.base import Backbone, resolve_arch
from xvit_det.backbones.xvit_fused import FusedXViTBlock
from xvit_det.errors import InputError
from xvit_det.functional import map_to_tokens, tokens_to_map
from xvit_det.layers import (
    Affine,
    ClassAttentionBlock,
    ConvStem,
    DropPath,
    FeaturePyramid,
    FeedForward,
    FourierPosition,
    ImageExtents,
    LocalPatchInteraction,
    checkpoint,
)
from xvit_det.layers.padding import zero_padding_
from xvit_det.mixers import XNormAttention

STRIDE = 16


def _arch(embed_dims: int, depth: int, attn_dims: int, num_heads: int, layer_scale: float) -> dict:
    return dict(
        embed_dims=embed_dims,
        depth=depth,
        attn_dims=attn_dims,
        num_heads=num_heads,
        mlp_ratio=4,
        num_class_layers=2,
        layer_scale=layer_scale,
    )


class XViTBlock(nn.Module):
    """XNorm attention, local patch interaction and MLP, each with a pre-norm, an affine and a residual connection.

    Args:
        embed_dims, attn_dims, num_heads, kv_axis, gamma: See :class:`xvit_det.mixers.XNormAttention`.
        hidden_dims: Hidden width of the MLP.
        layer_scale: Initial value of the affines' alpha.
        drop_path_rate: Probability of skipping a branch in training.
        norm_cfg: The norm inside the local patch interaction.
    """

    def __init__(
        self,
        embed_dims: int,
        attn_dims: int,
        num_heads: int,
        *,
        hidden_dims: int,
        layer_scale: float,
        drop_path_rate: float,
        norm_cfg: dict,
        kv_axis: int,
        gamma: float | None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = XNormAttention(embed_dims, attn_dims, num_heads, kv_axis=kv_axis, gamma=gamma)
        self.affine1 = Affine(embed_dims, layer_scale)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.lpi = LocalPatchInteraction(embed_dims, norm_cfg)
        self.affine2 = Affine(embed_dims, layer_scale)
        self.norm3 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = FeedForward(embed_dims, hidden_dims)
        self.affine3 = Affine(embed_dims, layer_scale)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """Tokens (B, N, C) of a map of ``size`` (h, w) -> (B, N, C). ``valid``: (B, N) bool, false at padding."""
        # In place is safe: no backward pass uses the output of addcmul, or of DropPath's product.
        x = self.drop_path(self.affine1(self.attn(self.norm1(x), valid))).add_(x)
        x = self.drop_path(self.affine2(self.lpi(self.norm2(x), size, valid))).add_(x)
        return self.drop_path(self.affine3(self.mlp(self.norm3(x)))).add_(x)

    def fold(self) -> FusedXViTBlock:
        """Fold LayerNorm weights, affines and the BatchNorm into the layers around them."""
        return FusedXViTBlock(self)


@MODELS.register_module()
class XViT(Backbone):
    """The X-ViT backbone, for detection, segmentation and classification, at any image size.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'medium'`` or ``'base'`` (or the initial), or a dict with the same keys:
            ``embed_dims`` d, ``depth``, ``attn_dims`` e, ``num_heads``, ``mlp_ratio``, ``num_class_layers`` and
            ``layer_scale``, the initial value of the affines' alpha.
        in_channels: Channels of the image.
        out_type: ``'pyramid'``: four maps at strides 4, 8, 16, 32; ``'featmap'``: the plain stride-16 maps of
            ``out_indices``; ``'cls_token'``: the class token (B, d) after class attention; ``'avg_featmap'``: the
            normalised, averaged tokens (B, d) of ``out_indices``. Parameters that the chosen output does not use are
            not created.
        out_indices: Blocks to read, negative from the end. ``None``: four for ``'pyramid'`` (3, 5, 7, 11 at depth
            12 and 7, 11, 15, 23 at depth 24, as XCiT), else the last. Blocks after the last of them are not built.
        out_strides: Strides of the pyramid's maps, such as ``(8, 16, 32)`` for detectors that start at stride 8, or
            ``32`` for a single map; each is read from its usual block. ``None``: 4, 8, 16, 32.
        layer_scale: Initial value of the affines' alpha; ``None``: that of the arch.
        drop_path_rate: Probability of skipping a residual branch in training, the same at every depth.
        position: Add the Fourier position encoding.
        kv_axis, gamma: See :class:`xvit_det.mixers.XNormAttention`.
        mask_padding: Mask the padding of a batch, so that an image's maps do not depend on the batch it is in. Image
            sizes are given to ``forward`` or found by the padding's exact zeros, see
            :meth:`xvit_det.layers.ImageExtents.from_zeros`. Exact with BatchNorm in evaluation mode; GroupNorm's
            statistics still include the padding.
        frozen_stages, norm_eval, with_cp, init_cfg: See :class:`Backbone`.
        norm_cfg: Norm of stem, local patch interaction and pyramid: ``BN``, ``SyncBN`` or ``GN``.

    Raises:
        InputError: A value that is not one of the choices; the message lists them.
    """

    arch_zoo = {
        'tiny': _arch(embed_dims=192, depth=24, attn_dims=96, num_heads=4, layer_scale=1e-5),
        'small': _arch(embed_dims=384, depth=12, attn_dims=128, num_heads=8, layer_scale=1.0),
        'medium': _arch(embed_dims=384, depth=24, attn_dims=128, num_heads=8, layer_scale=1e-5),
        'base': _arch(embed_dims=512, depth=24, attn_dims=128, num_heads=8, layer_scale=1e-5),
    }
    arch_aliases = {name[0]: name for name in arch_zoo}

    def __init__(
        self,
        *,
        arch: str | dict = 'small',
        in_channels: int = 3,
        out_type: str = 'pyramid',
        out_indices: int | Sequence[int] | None = None,
        out_strides: int | Sequence[int] | None = None,
        layer_scale: float | None = None,
        drop_path_rate: float = 0.0,
        position: bool = True,
        kv_axis: int = -2,
        gamma: float | None = 1.0,
        mask_padding: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        settings = resolve_arch(arch, self.arch_zoo, self.arch_aliases)
        depth, embed_dims = settings['depth'], settings['embed_dims']
        super().__init__(
            depth=depth,
            pyramid_indices=pyramid_indices(depth) if out_type == 'pyramid' and out_indices is None else (),
            out_type=out_type,
            out_indices=out_indices,
            out_strides=out_strides,
            in_channels=in_channels,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        norm_cfg = norm_cfg or dict(type='BN')
        self.embed_dims = embed_dims
        self.mask_padding = mask_padding
        shared: dict[str, Any] = dict(
            attn_dims=settings['attn_dims'],
            num_heads=settings['num_heads'],
            kv_axis=kv_axis,
            gamma=gamma,
            hidden_dims=int(settings['mlp_ratio'] * embed_dims),
            layer_scale=settings['layer_scale'] if layer_scale is None else layer_scale,
        )
        self.stem = ConvStem(in_channels, embed_dims, STRIDE, norm_cfg)
        self.pos_embed = FourierPosition(embed_dims) if position else None
        self.blocks = nn.ModuleList(
            XViTBlock(embed_dims, drop_path_rate=drop_path_rate, norm_cfg=norm_cfg, **shared)
            for _ in range(self.num_blocks)
        )
        if out_type == 'pyramid':
            self.pyramid = FeaturePyramid([embed_dims] * len(self.out_indices), norm_cfg, strides=self.pyramid_strides)
        elif out_type == 'cls_token':
            self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
            self.class_blocks = nn.ModuleList(
                ClassAttentionBlock(embed_dims, **shared) for _ in range(settings['num_class_layers'])
            )
        if out_type in ('cls_token', 'avg_featmap'):
            self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.out_channels = (embed_dims,) * len(self.out_indices)
        self.out_strides = (STRIDE,) * len(self.out_indices) if out_type == 'featmap' else ()
        if out_type == 'pyramid':
            self.out_strides = self.pyramid.strides
        self._reset_parameters()
        self._freeze()

    @property
    def layer_groups(self) -> list[list[nn.Module]]:
        groups: list[list[nn.Module]] = [[self.stem], *([block] for block in self.blocks)]
        if self.pos_embed is not None:
            groups[0].append(self.pos_embed)
        return groups

    def forward(self, x: Tensor, mask: None = None, *, image_sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the features of a batch of images.

        Args:
            x: Images (B, in_channels, H, W).
            mask: ``None``. MMPretrain's masked image modelling passes the mask here, which is refused.
            image_sizes: (B, 2) integers, the height and width in pixels that each image of a padded batch covers. Used
                with ``mask_padding`` only; ``None``: found by the padding's zeros.

        Returns:
            A tuple, also of a single output: maps (B, d, h, w), or vectors (B, d), see ``out_type``.

        Raises:
            InputError: ``x`` is not a batch of ``in_channels``-channel images, ``image_sizes`` does not fit it, or a
                mask is given.
        """
        self._refuse(mask)
        self._check_input(x)
        extents = None
        if self.mask_padding and image_sizes is not None:
            extents = ImageExtents.from_sizes(image_sizes, x)
            x = zero_padding_(x.clone(), extents, stride=1)
        elif self.mask_padding:
            extents = ImageExtents.from_zeros(x)
        features = self.stem(x, extents)
        size = features.shape[-2:]
        inside = None if extents is None else extents.mask(size, STRIDE)
        valid = None if inside is None else inside.flatten(1)  # (B, 1, h, w) -> (B, N)
        x = map_to_tokens(features)
        if self.pos_embed is not None:
            x = x + self.pos_embed(size, None if extents is None else extents.at_stride(STRIDE))
        taps = []
        for index, block in enumerate(self.blocks):
            x = checkpoint(block, x, size, valid) if self._recompute else block(x, size, valid)
            if index in self.out_indices:
                taps.append(x)
        return self._output(taps, size, valid, extents)

    def _output(
        self, taps: list[Tensor], size: tuple[int, int], valid: Tensor | None, extents: ImageExtents | None
    ) -> tuple[Tensor, ...]:
        if self.out_type == 'cls_token':
            cls_token = self.cls_token.expand(len(taps[0]), -1, -1)
            for block in self.class_blocks:
                cls_token = block(cls_token, taps[0], valid)
            return (self.norm(cls_token)[:, 0],)
        if self.out_type == 'avg_featmap':
            return tuple(_mean_token(self.norm(x), valid) for x in taps)
        maps = [tokens_to_map(x, size) for x in taps]  # (B, N, d) -> (B, d, h, w)
        return tuple(maps) if self.out_type == 'featmap' else self.pyramid(maps, extents)

    def _reset_parameters(self) -> None:
        """As DeiT: linear layers and class token from a truncated normal of 0.02, the rest PyTorch's defaults."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if self.out_type == 'cls_token':
            nn.init.trunc_normal_(self.cls_token, std=0.02)


def pyramid_indices(depth: int) -> tuple[int, ...]:
    """The four blocks a pyramid reads: XCiT's 3, 5, 7, 11 at depth 12, in proportion at other depths.

    Raises:
        InputError: Fewer than four blocks.
    """
    if depth < 4:
        raise InputError(f'out_type pyramid needs at least four blocks, not depth={depth}')
    ends = (depth // 3, depth // 2, -(-2 * depth // 3), depth)
    return tuple(end - 1 for end in ends)


def _mean_token(x: Tensor, valid: Tensor | None) -> Tensor:
    """(B, N, C) -> (B, C), over the valid tokens."""
    if valid is None:
        return x.mean(dim=1)
    weight = valid.to(x.dtype)[..., None]
    return (x * weight).sum(dim=1) / weight.sum(dim=1)
