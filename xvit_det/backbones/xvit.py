"""X-ViT: a vision transformer whose attention is linear in the number of tokens.

"X-ViT: High Performance Linear Vision Transformer without Softmax" (arXiv 2109.14382, first called UFO-ViT). With
cross-covariance attention in the place of XNorm attention it is XCiT (arXiv 2106.09681).
"""

import inspect
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from xvit_det.backbones import xvit_archs
from xvit_det.backbones.base import Backbone, resolve_arch
from xvit_det.backbones.xvit_fused import FusedXViTBlock
from xvit_det.errors import InputError
from xvit_det.functional import map_to_tokens, mean_token, tokens_to_map
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
    XCiTClassBlock,
    checkpoint,
)
from xvit_det.layers.padding import find_extents
from xvit_det.mixers import MIXERS, TokenMixer, build_mixer
from xvit_det.mixers.base import check_heads

PATCH_SIZES = (8, 16)


class XViTBlock(nn.Module):
    """Token mixer, local patch interaction and MLP, each with a pre-norm, an affine and a residual connection.

    Args:
        mixer: XNorm attention in X-ViT, cross-covariance attention in XCiT; its ``embed_dims`` is the block's width.
        hidden_dims: Hidden width of the MLP.
        layer_scale: Initial value of the affines' alpha.
        drop_path_rate: Probability of skipping a branch in training.
        norm_cfg: The norm inside the local patch interaction.
    """

    def __init__(
        self, mixer: TokenMixer, *, hidden_dims: int, layer_scale: float, drop_path_rate: float, norm_cfg: dict
    ) -> None:
        super().__init__()
        embed_dims = mixer.embed_dims
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = mixer
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
        x = self.drop_path(self.affine1(self.attn(self.norm1(x), valid, size))).add_(x)
        x = self.drop_path(self.affine2(self.lpi(self.norm2(x), size, valid))).add_(x)
        return self.drop_path(self.affine3(self.mlp(self.norm3(x)))).add_(x)

    def fold(self) -> FusedXViTBlock:
        """Fold LayerNorm weights, affines and the BatchNorm into the layers around them."""
        return FusedXViTBlock(self)


class XViT(Backbone):
    """The X-ViT backbone, for detection, segmentation and classification, at any image size.

    With ``mixer='xca'`` and one of XCiT's archs it is XCiT.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'medium'`` or ``'base'`` (or the initial) of X-ViT; ``'nano_12'``,
            ``'tiny_12'``, ``'tiny_24'``, ``'small_12'``, ``'small_24'``, ``'medium_24'`` or ``'large_24'`` of XCiT, to
            go with ``mixer='xca'``; or a dict with the same keys: ``embed_dims`` d, ``depth``, ``attn_dims`` e,
            ``num_heads``, ``mlp_ratio``, ``num_class_layers``, and ``layer_scale``, the initial value of the affines'
            alpha. It may leave out ``class_block`` (``'xvit'``, or ``'xcit'`` with the option ``tokens_norm``, see
            :class:`xvit_det.layers.XCiTClassBlock`) and ``ceil_pool`` (whether the pyramid's pooling rounds odd sides
            up, as X-ViT's archs do, or down, as XCiT's do).
        mixer: ``'xnorm'``, ``'xca'``, ``'softmax'``, ``'performer'``, ``'nystrom'``, ``'fourier'``, or ``'identity'``
            for none; or a dict of the name under ``type`` and options.
        patch_size: Stride of the tokens in pixels: 16, or 8.
        in_channels: Channels of the image.
        out_type: ``'pyramid'``: four maps at strides 4, 8, 16, 32; ``'featmap'``: the plain maps of
            ``out_indices``, of stride ``patch_size``; ``'cls_token'``: the class token (B, d) after class attention;
            ``'avg_featmap'``: the normalised, averaged tokens (B, d) of ``out_indices``. Parameters that the chosen
            output does not use are not created.
        out_indices: Blocks to read, negative from the end. ``None``: four for ``'pyramid'`` (3, 5, 7, 11 at depth
            12 and 7, 11, 15, 23 at depth 24, as XCiT), else the last. Blocks after the last of them are not built.
        out_strides: Strides of the pyramid's maps, such as ``(8, 16, 32)`` for detectors that start at stride 8, or
            ``32`` for a single map; each is read from its usual block. ``None``: 4, 8, 16, 32.
        layer_scale: Initial value of the affines' alpha; ``None``: that of the arch.
        drop_path_rate: Probability of skipping a residual branch in training, the same at every depth.
        position: Add the Fourier position encoding.
        kv_axis, gamma: Of XNorm attention in the blocks and in class attention, see
            :class:`xvit_det.mixers.XNormAttention`.
        mask_padding: Mask the padding of a batch, so that an image's maps do not depend on the batch it is in. Image
            sizes are given to ``forward`` or found by the padding's exact zeros, see
            :meth:`xvit_det.layers.ImageExtents.from_zeros`. Exact with BatchNorm in evaluation mode; GroupNorm's
            statistics still include the padding. Nyström attention's landmarks still depend on the size of the batch,
            and Fourier mixing has no mask.
        frozen_stages, norm_eval, with_cp, init_cfg: See :class:`Backbone`.
        norm_cfg: Norm of stem, local patch interaction and pyramid: ``BN``, ``SyncBN`` or ``GN``.

    Raises:
        InputError: A value that is not one of the choices; the message lists them.
    """

    arch_zoo = xvit_archs.XVIT | xvit_archs.XCIT
    arch_aliases = {name[0]: name for name in xvit_archs.XVIT}

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any] = 'small',
        mixer: str | Mapping[str, Any] = 'xnorm',
        patch_size: int = 16,
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
        if isinstance(arch, Mapping):
            arch = xvit_archs.DEFAULTS | dict(arch)
        settings = resolve_arch(arch, self.arch_zoo, self.arch_aliases)
        depth, embed_dims = settings['depth'], settings['embed_dims']
        super().__init__(
            depth=depth,
            pyramid_indices=pyramid_indices(depth) if out_type == 'pyramid' and out_indices is None else (),
            out_type=out_type,
            out_indices=out_indices,
            out_strides=out_strides,
            in_channels=in_channels,
            drop_path_rate=drop_path_rate,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            mask_padding=mask_padding,
            with_cp=with_cp,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
        )
        if not (isinstance(patch_size, int) and patch_size in PATCH_SIZES):
            raise InputError(f'patch_size={patch_size} is not one of {", ".join(map(str, PATCH_SIZES))}')
        if settings['class_block'] not in ('xvit', 'xcit'):
            raise InputError(f'class_block={settings["class_block"]!r} is not one of xvit, xcit')
        if position not in (True, False):
            raise InputError(f'position={position!r} is not True or False')
        for name, value in dict(layer_scale=layer_scale, gamma=gamma).items():
            if not isinstance(value, Real | None):
                raise InputError(f'{name}={value!r} is not a number')
        self.embed_dims = embed_dims
        self.patch_size = patch_size
        attention: dict[str, Any] = dict(
            embed_dims=embed_dims,
            attn_dims=settings['attn_dims'],
            num_heads=settings['num_heads'],
            kv_axis=kv_axis,
            gamma=gamma,
        )
        shared: dict[str, Any] = dict(
            hidden_dims=int(settings['mlp_ratio'] * embed_dims),
            layer_scale=settings['layer_scale'] if layer_scale is None else layer_scale,
        )
        self.stem = ConvStem(in_channels, embed_dims, patch_size, self.norm_cfg)
        self.pos_embed = FourierPosition(embed_dims) if position else None
        self.blocks = nn.ModuleList(
            XViTBlock(_build_mixer(mixer, **attention), drop_path_rate=drop_path_rate, norm_cfg=self.norm_cfg, **shared)
            for _ in range(self.num_blocks)
        )
        if out_type == 'pyramid':
            number = len(self.out_indices)
            self.pyramid = FeaturePyramid(
                [embed_dims] * number, self.norm_cfg, [patch_size] * number, self.pyramid_strides, settings['ceil_pool']
            )
        elif out_type == 'cls_token':
            self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
            self.class_blocks = nn.ModuleList(
                ClassAttentionBlock(**attention, **shared)
                if settings['class_block'] == 'xvit'
                else XCiTClassBlock(embed_dims, settings['num_heads'], tokens_norm=settings['tokens_norm'], **shared)
                for _ in range(settings['num_class_layers'])
            )
        if out_type in ('cls_token', 'avg_featmap'):
            self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.out_channels = (embed_dims,) * len(self.out_indices)
        self.out_strides = (patch_size,) * len(self.out_indices) if out_type == 'featmap' else ()
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
        return self._output(*self._tokens(x, self.out_indices, image_sizes))

    def _tokens(
        self, x: Tensor, indices: Sequence[int], image_sizes: Tensor | None = None
    ) -> tuple[list[Tensor], tuple[int, int], Tensor | None, ImageExtents | None]:
        """Tokens (B, N, d) after the blocks ``indices``, size of their map, and what is known about padding."""
        self._check_input(x)
        extents = None
        if self.mask_padding:
            x, extents = find_extents(x, image_sizes)
        features = self.stem(x, extents)
        size = features.shape[-2:]
        valid = None if extents is None else extents.valid(size, self.patch_size)
        x = map_to_tokens(features)
        if self.pos_embed is not None:
            x = x + self.pos_embed(size, None if extents is None else extents.at_stride(self.patch_size))
        taps = []
        for index, block in enumerate(self.blocks):
            x = checkpoint(block, x, size, valid) if self._recompute else block(x, size, valid)
            if index in indices:
                taps.append(x)
        return taps, size, valid, extents

    def _output(
        self, taps: list[Tensor], size: tuple[int, int], valid: Tensor | None, extents: ImageExtents | None
    ) -> tuple[Tensor, ...]:
        if self.out_type == 'cls_token':
            cls_token, _ = self._class_attention(taps[-1], valid)
            return (self.norm(cls_token)[:, 0],)
        if self.out_type == 'avg_featmap':
            return tuple(mean_token(self.norm(x), valid) for x in taps)
        maps = [tokens_to_map(x, size) for x in taps]  # (B, N, d) -> (B, d, h, w)
        return tuple(maps) if self.out_type == 'featmap' else self.pyramid(maps, extents)

    def _class_attention(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, d) -> the class token (B, 1, d) and the tokens that the class blocks leave."""
        cls_token = self.cls_token.expand(x.shape[0], -1, -1)
        for block in self.class_blocks:
            cls_token, x = block(cls_token, x, valid)
        return cls_token, x

    def _reset_parameters(self) -> None:
        """As DeiT: linear layers and class token from a truncated normal of 0.02, the rest PyTorch's defaults."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.out_type == 'cls_token':
            nn.init.trunc_normal_(self.cls_token, std=0.02)


def _build_mixer(mixer: str | Mapping[str, Any], **context: Any) -> TokenMixer:
    """One of the mixers that are not made for one size of image."""
    choices = {name: cls for name, cls in MIXERS.items() if 'grid' not in inspect.signature(cls).parameters}
    name = mixer.get('type') if isinstance(mixer, Mapping) else mixer
    if name != 'xnorm' and (context['kv_axis'], context['gamma']) != (-2, 1.0):
        raise InputError(
            f'kv_axis={context["kv_axis"]} and gamma={context["gamma"]} are options of XNorm attention, not of mixer '
            f'{name!r}'
        )
    check_heads(context['attn_dims'], context['num_heads'])
    return build_mixer(mixer, choices, head_dims=context['attn_dims'] // context['num_heads'], **context)


def pyramid_indices(depth: int) -> tuple[int, ...]:
    """The four blocks a pyramid reads: XCiT's 3, 5, 7, 11 at depth 12, in proportion at other depths.

    Raises:
        InputError: Fewer than four blocks.
    """
    if depth < 4:
        raise InputError(f'out_type pyramid needs at least four blocks, not depth={depth}')
    ends = (depth // 3, depth // 2, -(-2 * depth // 3), depth)
    return tuple(end - 1 for end in ends)
