"""LeViX: a convolutional stem and transformer blocks without any norm, after LeViT.

"Vision Xformers" (arXiv 2107.02239), Tables 3 and 4; "LeViT: a Vision Transformer in ConvNet's Clothing for Faster
Inference" (arXiv 2104.01136), Section 4, for its attention.
"""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from xvit_det.backbones.staged import StagedBackbone
from xvit_det.backbones.vix import build_stem
from xvit_det.functional import map_to_tokens, merge_heads, split_heads, tokens_to_map
from xvit_det.layers import Embedding, MixerBlock, build_norm
from xvit_det.layers.norm import fold_norm
from xvit_det.mixers import MIXERS, TokenMixer
from xvit_det.mixers.base import resolve_head_dims


class LinearNorm(nn.Module):
    """A linear layer and a norm of the map that the tokens are, as LeViT's 1x1 convolutions with BatchNorm.

    Args:
        in_dims: Width of the tokens.
        out_dims: Width after it.
        norm_cfg: See :func:`xvit_det.layers.build_norm`.
        bias: Whether the linear layer has a bias.
        gain: Start value of the norm's gain.
    """

    def __init__(self, in_dims: int, out_dims: int, norm_cfg: dict, bias: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dims, out_dims, bias=bias)
        self.norm = build_norm(norm_cfg, out_dims)
        nn.init.constant_(self.norm.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C')."""
        return map_to_tokens(self.norm(tokens_to_map(self.linear(x), (x.shape[1], 1))))

    def fold(self) -> nn.Module:
        """Fold the norm into the linear layer, which is then all that is left."""
        self.norm = fold_norm(self.linear, self.norm)
        return self.linear if isinstance(self.norm, nn.Identity) else self


class LeViTAttention(TokenMixer):
    """Softmax attention with a BatchNorm behind each projection and GELU before the last one.

    LeViT's position bias is left out, as in the ViX paper. The last norm's gain starts at 0, so that every block starts
    as its perceptron alone.

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
        self.proj = LinearNorm(inner, embed_dims, norm_cfg, bias=True, gain=0.0)

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        q, k, v = (split_heads(layer(x), self.num_heads) for layer in (self.q, self.k, self.v))
        mask = None if valid is None else valid[:, None, None].bool()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(F.gelu(merge_heads(out)))


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2 with a norm, between stages.

    Args:
        in_dims: Width C of the tokens.
        out_dims: Width C' after it.
        norm_cfg: See :func:`xvit_det.layers.build_norm`.
    """

    def __init__(self, in_dims: int, out_dims: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dims, out_dims, 3, stride=2, padding=1, bias=False)
        self.norm = build_norm(norm_cfg, out_dims)

    def forward(self, x: Tensor, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """(B, h·w, C), (h, w) -> (B, ⌈h/2⌉·⌈w/2⌉, C') and its size."""
        features = self.norm(self.conv(tokens_to_map(x, size)))
        return map_to_tokens(features), tuple(features.shape[-2:])

    def fold(self) -> 'Downsample':
        """Fold the norm into the convolution."""
        self.norm = fold_norm(self.conv, self.norm)
        return self


@MODELS.register_module()
class LeViX(StagedBackbone):
    """LeViT's layout with any token mixer; ``mixer='softmax'`` is LeViT's own attention.

    Args:
        arch: ``'paper'`` for CIFAR-10 and Tiny ImageNet, ``'levit_256'`` with the stages of LeViT-256; or a dict with
            the same keys, of which ``pre_norm`` puts a LayerNorm before every mixer and perceptron. The paper's models
            have no norm but those of LeViT's attention.
        mixer: See :class:`xvit_det.ViX`. The last stage has few tokens, 49 of a 224 x 224 image in the pyramid of
            ``'levit_256'``; Nyström needs as many as it has landmarks.
        stem: See :class:`xvit_det.ViX`.
        patch_size: Stride of the first stage's tokens, in pixels.
        **shared: See :class:`StagedBackbone`; ``out_type='cls_token'`` is the mean of the tokens.

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
        # LeViT narrows between stages inside an attention layer; here a convolution does it, which any mixer allows.
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
        stem: str = 'deep_conv',
        patch_size: int = 16,
        **shared: Any,
    ) -> None:
        super().__init__(arch=arch, mixer=mixer, patch_size=patch_size, **shared)
        self.stem = stem
        self._build()

    def _entry(self, stage: int) -> nn.Module:
        widths = self.arch['embed_dims']
        if stage > 0:
            return Downsample(widths[stage - 1], widths[stage], self.norm_cfg)
        return Embedding(build_stem(self.stem, self.in_channels, widths[0], self.patch_size, self.norm_cfg))

    def _block(self, mixer: TokenMixer, hidden_dims: int, drop_path_rate: float) -> nn.Module:
        norm = nn.LayerNorm if self.arch['pre_norm'] else nn.Identity
        return MixerBlock(mixer, hidden_dims, drop_path_rate, norm)

    def _final_norm(self, channels: int) -> nn.Module:
        return nn.LayerNorm(channels) if self.arch['pre_norm'] else nn.Identity()
