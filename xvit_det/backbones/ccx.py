"""CCX: a compact convolutional transformer with any token mixer.

"Vision Xformers" (arXiv 2107.02239), Tables 3 and 4; "Escaping the Big Data Paradigm with Compact Transformers" (arXiv
2104.05704), Section 3, for its tokenizer and sequence pooling.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from xvit_det.backbones.staged import StagedBackbone
from xvit_det.errors import InputError
from xvit_det.layers import ConvTokenizer, Embedding, LearnedPosition, PostNormBlock


class SequencePooling(nn.Module):
    """The sum of all tokens, weighted by the softmax of a learned score: (B, N, C) -> (B, C).

    Args:
        embed_dims: Width C of the tokens.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.score = nn.Linear(embed_dims, 1)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Pool the tokens that are ``valid`` (B, N)."""
        score = self.score(x)  # (B, N, 1)
        weight = (score if valid is None else score.masked_fill(~valid[..., None], float('-inf'))).softmax(dim=1)
        return (weight.transpose(1, 2) @ x)[:, 0]  # (B, 1, N) @ (B, N, C) -> (B, C)


class CCX(StagedBackbone):
    """CCT's layout with any token mixer: a convolutional tokenizer, blocks with the second norm on the residual stream,
    and sequence pooling.

    Args:
        arch: ``'paper'`` for CIFAR-10 and Tiny ImageNet, ``'cct_14'`` as CCT-14/7x2; or a dict with the same keys, of
            which ``tokenizer_widths`` (channels of each convolution but the last), ``tokenizer_kernel`` (their kernel
            size) and ``pool_stride`` (of the pooling after each) describe the tokenizer.
        mixer: See :class:`xvit_det.ViX`; the paper's CCT has ``dict(type='softmax', attn_drop=0.1)``.
        img_size: Image side in pixels, or (height, width), that position tables and Linformer are made for.
        patch_size: Stride of the tokens in pixels; as many of the first convolutions as needed have stride 2.
        in_channels: Channels of the image.
        out_type: ``'pyramid'``, ``'featmap'``, ``'cls_token'`` (the sequence pooling) or ``'avg_featmap'``.
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
        InputError: A value that is not one of the choices, or a stride that the tokenizer cannot have.
    """

    arch_zoo = {
        'paper': dict(
            embed_dims=(128,),
            depths=(4,),
            num_heads=(4,),
            head_dims=32,
            hidden_dims=(512,),
            pyramid_indices=(0, 1, 2, 3),
            tokenizer_widths=(64, 64),
            tokenizer_kernel=3,
            pool_stride=1,
        ),
        'cct_14': dict(
            embed_dims=(384,),
            depths=(14,),
            num_heads=(6,),
            head_dims=64,
            hidden_dims=(1152,),
            pyramid_indices=(3, 6, 9, 13),
            tokenizer_widths=(64,),
            tokenizer_kernel=7,
            pool_stride=2,
        ),
    }
    block = PostNormBlock
    max_stages = 1

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any] = 'cct_14',
        mixer: str | Mapping[str, Any] = 'nystrom',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
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
        if self.out_type == 'cls_token':
            self.pooling = SequencePooling(self.out_channels[-1])
        self._reset_parameters()

    def _entry(self, stage: int) -> nn.Module:
        (embed_dims,) = self.arch['embed_dims']
        widths = (*self.arch['tokenizer_widths'], embed_dims)
        pool = self.arch['pool_stride']
        conv_stride = self.patch_size / pool ** len(widths)
        strides = [2 if conv_stride > 2**i else 1 for i in range(len(widths))]
        if conv_stride not in [2**i for i in range(len(widths) + 1)]:
            possible = [pool ** len(widths) * 2**i for i in range(len(widths) + 1)]
            raise InputError(f'patch_size={self.patch_size} is not one of the strides {possible} of this tokenizer')
        return Embedding(
            ConvTokenizer(self.in_channels, widths, self.arch['tokenizer_kernel'], strides, pool),
            self.patch_size,
            LearnedPosition(embed_dims, self._grid(stage), std=0.2, truncated=True),
        )

    def _pool(self, x: Tensor, valid: Tensor | None) -> Tensor:
        return self.pooling(x, valid)

    def _reset_parameters(self) -> None:
        """As CCT: linear layers from a truncated normal of 0.02, the tokenizer's convolutions from He's."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.entries[0].get_submodule('stem').modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
