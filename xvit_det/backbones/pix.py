"""PiX: ViX with a pooling layer between its stages, after PiT.

"Vision Xformers" (arXiv 2107.02239), Table 5; "Rethinking Spatial Dimensions of Vision Transformers" (arXiv
2103.16302), Section 3.2, for the pooling.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from xvit_det.backbones.staged import StagedBackbone
from xvit_det.backbones.vix import build_stem
from xvit_det.functional import map_to_tokens, tokens_to_map
from xvit_det.layers import Embedding, LearnedPosition, MixerBlock
from xvit_det.mixers import TokenMixer


class TokenPooling(nn.Module):
    """Halve the map with a depthwise convolution that also widens it; a class token is widened by a linear layer.

    Args:
        in_dims: Width C of the tokens.
        out_dims: Width C' after it, a multiple of C.
        num_prefix: 1 if a class token precedes the map, else 0.
    """

    def __init__(self, in_dims: int, out_dims: int, num_prefix: int) -> None:
        super().__init__()
        self.num_prefix = num_prefix
        self.depthwise = nn.Conv2d(in_dims, out_dims, 3, stride=2, padding=1, groups=in_dims)
        self.pointwise = nn.Conv2d(out_dims, out_dims, 1)
        self.cls_proj = nn.Linear(in_dims, out_dims) if num_prefix else None

    def forward(self, x: Tensor, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """(B, P + h·w, C), (h, w) -> (B, P + ⌈h/2⌉·⌈w/2⌉, C') and its size."""
        features = self.pointwise(self.depthwise(tokens_to_map(x[:, self.num_prefix :], size)))
        pooled = map_to_tokens(features)
        if self.cls_proj is not None:
            pooled = torch.cat((self.cls_proj(x[:, :1]), pooled), dim=1)
        return pooled, tuple(features.shape[-2:])


@MODELS.register_module()
class PiX(StagedBackbone):
    """A vision transformer whose map shrinks and widens between stages, with any token mixer.

    Args:
        arch: ``'paper'`` for CIFAR-10, ``'small'`` as PiT-S; or a dict with the same keys, of which ``init_std`` is the
            deviation that class token and position table start with.
        mixer: See :class:`xvit_det.ViX`. The last stage has few tokens, 49 of a 224 x 224 image with ``'small'``;
            Nyström needs as many as it has landmarks.
        stem: See :class:`xvit_det.ViX`.
        patch_size: Side of a patch, in pixels.
        **shared: See :class:`StagedBackbone`. A class token exists with ``out_type='cls_token'`` only.

    Raises:
        InputError: A value that is not one of the choices; the message lists them.
    """

    arch_zoo = {
        'paper': dict(
            embed_dims=(128, 256),
            depths=(2, 2),
            num_heads=(4, 4),
            head_dims=32,
            hidden_dims=(256, 256),
            pyramid_indices=(0, 1, 2, 3),
            init_std=1.0,
        ),
        'small': dict(
            embed_dims=(144, 288, 576),
            depths=(2, 6, 4),
            num_heads=(3, 6, 12),
            head_dims=48,
            hidden_dims=(576, 1152, 2304),
            pyramid_indices=(0, 1, 7, 11),
            init_std=0.02,
        ),
    }
    has_cls_token = True

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any] = 'small',
        mixer: str | Mapping[str, Any] = 'performer',
        stem: str = 'patch',
        patch_size: int = 8,
        **shared: Any,
    ) -> None:
        super().__init__(arch=arch, mixer=mixer, patch_size=patch_size, **shared)
        self.stem = stem
        self._build()

    def _entry(self, stage: int) -> nn.Module:
        widths, std = self.arch['embed_dims'], self.arch['init_std']
        if stage > 0:
            return TokenPooling(widths[stage - 1], widths[stage], self.num_prefix)
        return Embedding(
            build_stem(self.stem, self.in_channels, widths[0], self.patch_size, self.norm_cfg),
            LearnedPosition(widths[0], self._grid(0), self.num_prefix, std),
            cls_dims=widths[0] if self.num_prefix else None,
            cls_std=std,
        )

    def _block(self, mixer: TokenMixer, hidden_dims: int, drop_path_rate: float) -> nn.Module:
        return MixerBlock(mixer, hidden_dims, drop_path_rate)

    def _pool(self, x: Tensor) -> Tensor:
        return x[:, 0]  # the class token
