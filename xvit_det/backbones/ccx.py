"""CCX: a compact convolutional transformer with any token mixer.

"Vision Xformers" (arXiv 2107.02239), Tables 3 and 4; "Escaping the Big Data Paradigm with Compact Transformers" (arXiv
2104.05704), Section 3, for tokenizer and sequence pooling.
"""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from xvit_det.backbones.staged import StagedBackbone
from xvit_det.errors import InputError
from xvit_det.layers import ConvTokenizer, Embedding, LearnedPosition, PostNormBlock
from xvit_det.mixers import TokenMixer


class SequencePooling(nn.Module):
    """The sum of all tokens, weighted by a softmax of a learned score: (B, N, C) -> (B, C).

    Args:
        embed_dims: Width C of the tokens.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.score = nn.Linear(embed_dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.score(x).softmax(dim=1)  # (B, N, 1)
        return (weight.transpose(1, 2) @ x)[:, 0]  # (B, 1, N) @ (B, N, C) -> (B, C)


@MODELS.register_module()
class CCX(StagedBackbone):
    """Convolutions with pooling for an embedding, blocks with the second norm on the residual stream, sequence pooling.

    Args:
        arch: ``'paper'`` for CIFAR-10 and Tiny ImageNet, ``'cct_14'`` as CCT-14/7x2; or a dict with the same keys, of
            which ``tokenizer_widths``, ``tokenizer_kernel`` and ``pool_stride`` describe the embedding: the channels
            after each of its convolutions but the last, their side, and the stride of the pooling after each.
        mixer: See :class:`xvit_det.ViX`; the paper's CCT has ``dict(type='softmax', attn_drop=0.1)``.
        patch_size: Stride of the tokens, in pixels: the first convolutions have stride 2 as often as is needed.
        **shared: See :class:`StagedBackbone`; ``out_type='cls_token'`` is the sequence pooling.

    Raises:
        InputError: A value that is not one of the choices, or a stride that the embedding cannot have.
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
    max_stages = 1

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any] = 'cct_14',
        mixer: str | Mapping[str, Any] = 'nystrom',
        patch_size: int = 16,
        **shared: Any,
    ) -> None:
        super().__init__(arch=arch, mixer=mixer, patch_size=patch_size, **shared)
        self._build()
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
            LearnedPosition(embed_dims, self._grid(stage), std=0.2, truncated=True),
        )

    def _block(self, mixer: TokenMixer, hidden_dims: int, drop_path_rate: float) -> nn.Module:
        return PostNormBlock(mixer, hidden_dims, drop_path_rate)

    def _pool(self, x: Tensor) -> Tensor:
        return self.pooling(x)

    def _reset_parameters(self) -> None:
        """Linear layers from a normal of deviation 0.02, the tokenizer's convolutions after He, as CCT."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for conv in self.entries[0].stem.convs:
            nn.init.kaiming_normal_(conv.weight)
