"""LeViX: a convolutional stem and transformer blocks, in the paper without norms, after LeViT.

"Vision Xformers" (arXiv 2107.02239), Tables 3 and 4; "LeViT: a Vision Transformer in ConvNet's Clothing for Faster
Inference" (arXiv 2104.01136), Section 4, for its attention.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.backbones.staged import StagedBackbone
from xvit_det.functional import map_to_tokens, merge_heads, split_heads, tokens_to_map
from xvit_det.layers import ImageExtents, build_norm
from xvit_det.layers.norm import fold_norm
from xvit_det.mixers import MIXERS, TokenMixer
from xvit_det.mixers.base import resolve_head_dims


class LinearNorm(nn.Module):
    """A linear layer and a norm over the tokens: LeViT's 1x1 convolution with BatchNorm.

    Args:
        in_dims: Width of the tokens.
        out_dims: Output width.
        norm_cfg: See :func:`xvit_det.layers.build_norm`.
        bias: Whether the linear layer has a bias.
        scale: Initial value of the norm's weight.
    """

    def __init__(self, in_dims: int, out_dims: int, norm_cfg: dict, bias: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dims, out_dims, bias=bias)
        self.norm = build_norm(norm_cfg, out_dims)
        nn.init.constant_(self.norm.get_parameter('weight'), scale)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C')."""
        return map_to_tokens(self.norm(tokens_to_map(self.linear(x), (x.shape[1], 1))))

    def fold(self) -> nn.Module:
        """Fold the norm into the linear layer, which is then all that is left."""
        self.norm = fold_norm(self.linear, self.norm)
        return self.linear if isinstance(self.norm, nn.Identity) else self


class LeViTAttention(TokenMixer):
    """Softmax attention with a BatchNorm after each projection and GELU before the last one.

    LeViT's position bias is left out, as in the ViX paper. The last norm's weight starts at 0, so that a
    block is initially its MLP only.

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
        self.q, self.k, self.v = (LinearNorm(embed_dims, inner, norm_cfg) for _ in range(3))
        self.proj = LinearNorm(inner, embed_dims, norm_cfg, bias=True, scale=0.0)

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        q, k, v = (split_heads(layer(x), self.num_heads) for layer in (self.q, self.k, self.v))
        mask = None if valid is None else valid[:, None, None].bool()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(F.gelu(merge_heads(out)))


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2 with a norm, between stages.

    Args:
        in_dims: Width C of the tokens.
        out_dims: Output width C'.
        norm_cfg: See :func:`xvit_det.layers.build_norm`.
    """

    def __init__(self, in_dims: int, out_dims: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dims, out_dims, 3, stride=2, padding=1, bias=False)
        self.norm = build_norm(norm_cfg, out_dims)

    def forward(
        self, x: Tensor, size: tuple[int, int], extents: ImageExtents | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """(B, h·w, C), (h, w) -> (B, ⌈h/2⌉·⌈w/2⌉, C') and its size."""
        features = self.norm(self.conv(tokens_to_map(x, size)))
        return map_to_tokens(features), tuple(features.shape[-2:])

    def fold(self) -> 'Downsample':
        """Fold the norm into the convolution."""
        self.norm = fold_norm(self.conv, self.norm)
        return self


class LeViX(StagedBackbone):
    """LeViT's layout with any token mixer; ``mixer='softmax'`` is LeViT's own attention.

    Args:
        arch: ``'paper'`` for CIFAR-10 and Tiny ImageNet, ``'levit_256'`` with the stages of LeViT-256; or a dict with
            the same keys, of which ``pre_norm`` adds a LayerNorm before every mixer and MLP. The paper's models have
            no norms except those of LeViT's attention.
        mixer: See :class:`xvit_det.ViX`. The last stage has few tokens, 49 of a 224 x 224 image in the pyramid of
            ``'levit_256'``; Nyström needs as many as it has landmarks.
        img_size: Image side in pixels, or (height, width), that position tables and Linformer are made for.
        patch_size: Stride of the first stage's tokens, in pixels.
        stem: See :class:`xvit_det.ViX`.
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
            embed_dims=(128,),
            depths=(4,),
            num_heads=(4,),
            head_dims=32,
            hidden_dims=(256,),
            pyramid_indices=(0, 1, 2, 3),
            pre_norm=False,
        ),
        # LeViT narrows between stages inside an attention layer; here a convolution does, which works with any mixer.
        'levit_256': dict(
            embed_dims=(256, 384, 512),
            depths=(4, 4, 4),
            num_heads=(4, 6, 8),
            head_dims=32,
            hidden_dims=(512, 768, 1024),
            pyramid_indices=(1, 2, 3, 7),
            pre_norm=True,
        ),
    }
    mixers = ChainMap({'softmax': LeViTAttention}, MIXERS)

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any] = 'levit_256',
        mixer: str | Mapping[str, Any] = 'performer',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        stem: str = 'deep_conv',
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
            stem=stem,
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

    def _entry(self, stage: int) -> nn.Module:
        if stage == 0:
            return super()._entry(stage)
        widths = self.arch['embed_dims']
        return Downsample(widths[stage - 1], widths[stage], self.norm_cfg)

    def _norm(self, channels: int) -> nn.Module:
        return super()._norm(channels) if self.arch['pre_norm'] else nn.Identity()
