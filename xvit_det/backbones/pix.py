"""PiX: ViX with a pooling layer between stages, after PiT.

"Vision Xformers" (arXiv 2107.02239), Table 5; "Rethinking Spatial Dimensions of Vision Transformers" (arXiv
2103.16302), Section 3.2, for the pooling.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xvit_det.backbones.staged import StagedBackbone
from xvit_det.functional import map_to_tokens, tokens_to_map
from xvit_det.layers import ImageExtents


class TokenPooling(nn.Module):
    """Halves the map and widens it with a depthwise convolution; a linear layer widens the class token.

    Args:
        in_dims: Width C of the tokens.
        out_dims: Output width C', a multiple of C.
        num_prefix: 1 if a class token precedes the map, else 0.
    """

    def __init__(self, in_dims: int, out_dims: int, num_prefix: int) -> None:
        super().__init__()
        self.num_prefix = num_prefix
        self.depthwise = nn.Conv2d(in_dims, out_dims, 3, stride=2, padding=1, groups=in_dims)
        self.pointwise = nn.Conv2d(out_dims, out_dims, 1)
        self.cls_proj = nn.Linear(in_dims, out_dims) if num_prefix else None

    def forward(
        self, x: Tensor, size: tuple[int, int], extents: ImageExtents | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """(B, P + h·w, C), (h, w) -> (B, P + ⌈h/2⌉·⌈w/2⌉, C') and its size."""
        features = self.pointwise(self.depthwise(tokens_to_map(x[:, self.num_prefix :], size)))
        pooled = map_to_tokens(features)
        if self.cls_proj is not None:
            pooled = torch.cat((self.cls_proj(x[:, :1]), pooled), dim=1)
        return pooled, tuple(features.shape[-2:])


class PiX(StagedBackbone):
    """A vision transformer whose map shrinks and widens between stages, with any token mixer.

    Args:
        arch: ``'paper'`` for CIFAR-10, ``'small'`` as PiT-S; or a dict with the same keys, of which ``init_std`` is the
            standard deviation of the initial class token and position table.
        mixer: See :class:`xvit_det.ViX`. The last stage has few tokens, 49 of a 224 x 224 image with ``'small'``;
            Nyström needs as many as it has landmarks.
        img_size: Image side in pixels, or (height, width), that position tables and Linformer are made for.
        patch_size: Side of a patch, in pixels.
        stem: See :class:`xvit_det.ViX`.
        in_channels: Channels of the image.
        out_type: ``'pyramid'``, ``'featmap'``, ``'cls_token'`` (the class token, created for this output only) or
            ``'avg_featmap'``.
        out_indices: Blocks to read, counted through all stages; ``None``: the arch's for the pyramid, else the last.
        out_strides: Strides of the pyramid's maps, such as ``(8, 16, 32)`` or ``32``; ``None``: 4, 8, 16, 32.
        drop_path_rate: Probability of skipping a branch in training at the last block; it grows linearly from 0.
        frozen_stages: -1: nothing is frozen; 0: the stem; k: the stem and the first k blocks.
        norm_eval: Keep BatchNorm layers in evaluation mode while training.
        mask_padding: Mask the padding of a batch, where the mixer can, see :class:`StagedBackbone`.
        with_cp: Recompute activations in the backward pass to save memory.
        norm_cfg: Norm of the convolutions that have one: ``BN``, ``SyncBN`` or ``GN``.
        norm_eps: Epsilon of the LayerNorms: 1e-5 as in the paper's models; DeiT and PiT use 1e-6.
        init_cfg: OpenMMLab's initialisation; ``dict(type='Pretrained', checkpoint=...)`` loads weights.

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
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 8,
        stem: str = 'patch',
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
        norm_eps: float = 1e-5,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            arch=arch,
            mixer=mixer,
            img_size=img_size,
            patch_size=patch_size,
            stem=stem,
            position='learned',
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
            norm_eps=norm_eps,
            init_cfg=init_cfg,
        )

    def _entry(self, stage: int) -> nn.Module:
        if stage == 0:
            return super()._entry(stage)
        widths = self.arch['embed_dims']
        return TokenPooling(widths[stage - 1], widths[stage], self.num_prefix)
