"""ViX: a plain vision transformer with any token mixer.

"Vision Xformers: Efficient Attention for Image Classification" (arXiv 2107.02239): ViT, ViP (Performer), ViL
(Linformer) and ViN (Nyström), plain and hybrid (convolutional stem), with learned or rotary positions. FNet and
MLP-Mixer are ViX with the Fourier and the MLP mixer.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from xvit_det.backbones.staged import StagedBackbone
from xvit_det.errors import InputError
from xvit_det.layers import (
    ConvStem,
    Embedding,
    LearnedPosition,
    MixerBlock,
    OverlapPatchEmbed,
    PatchEmbed,
    PatchNormEmbed,
    PlainConvStem,
)
from xvit_det.mixers import RotaryPosition, TokenMixer

# What ``stem=`` may name: called with image channels, width and stride. 'conv' is the paper's hybrid stem, of stride 8
# at most; 'deep_conv' is X-ViT's, with norms and GELU, of any stride from 2 on.
STEMS: dict[str, Callable[..., nn.Module]] = {
    'patch': PatchEmbed,
    'conv': PlainConvStem,
    'deep_conv': ConvStem,
    'patch_norm': PatchNormEmbed,
    'overlap': OverlapPatchEmbed,
}
POSITIONS = ('learned', 'rotary', 'axial', 'none')


def build_stem(stem: str, in_channels: int, embed_dims: int, stride: int, norm_cfg: dict) -> nn.Module:
    """Build a stem by its name in ``STEMS``.

    Raises:
        InputError: An unknown name; the message lists the known ones.
    """
    if stem not in STEMS:
        raise InputError(f'stem {stem!r} is not one of {", ".join(STEMS)}')
    options = dict(norm_cfg=norm_cfg) if stem == 'deep_conv' else {}
    return STEMS[stem](in_channels, embed_dims, stride, **options)


def _plain(embed_dims: int, depth: int, num_heads: int, head_dims: int, hidden_dims: int, init_std: float) -> dict:
    """A plain transformer as one stage; the pyramid reads four evenly spaced blocks."""
    return dict(
        embed_dims=(embed_dims,),
        depths=(depth,),
        num_heads=(num_heads,),
        head_dims=head_dims,
        hidden_dims=(hidden_dims,),
        pyramid_indices=tuple(depth * part // 4 - 1 for part in (1, 2, 3, 4)),
        init_std=init_std,
    )


@MODELS.register_module()
class ViX(StagedBackbone):
    """A plain vision transformer whose token mixer is chosen by name.

    Args:
        arch: ``'paper'`` for CIFAR-10 and Tiny ImageNet, ``'paper_mixer'`` the same with the narrower perceptron of
            MLP-Mixer, ``'tiny'``, ``'small'`` and ``'base'`` as DeiT, ``'base_4_heads'`` for the ImageNet model in the
            paper's code; or a dict with the same keys, of which ``init_std`` is the deviation that class token and
            position table start with.
        mixer: ``'softmax'``, ``'performer'``, ``'linformer'``, ``'nystrom'``, ``'fourier'``, ``'mlp'`` or ``'xnorm'``,
            or a dict of the name under ``type`` and options.
        stem: ``'patch'``: linear patches; ``'conv'``: the paper's hybrid; ``'deep_conv'``: X-ViT's; ``'patch_norm'``:
            patches, GELU and LayerNorm; ``'overlap'``: overlapping patches.
        position: ``'learned'``: a table; ``'rotary'``: queries and keys turned along the sequence; ``'axial'``: turned
            by row and column; ``'none'``.
        patch_size: Side of a patch, which is the stride of the tokens, in pixels.
        **shared: See :class:`StagedBackbone`. A class token exists with ``out_type='cls_token'`` only.

    Raises:
        InputError: A value that is not one of the choices; the message lists them.
    """

    arch_zoo = {
        'paper': _plain(128, depth=4, num_heads=4, head_dims=32, hidden_dims=256, init_std=1.0),
        'paper_mixer': _plain(128, depth=4, num_heads=4, head_dims=32, hidden_dims=128, init_std=1.0),
        'tiny': _plain(192, depth=12, num_heads=3, head_dims=64, hidden_dims=768, init_std=0.02),
        'small': _plain(384, depth=12, num_heads=6, head_dims=64, hidden_dims=1536, init_std=0.02),
        'base': _plain(768, depth=12, num_heads=12, head_dims=64, hidden_dims=3072, init_std=0.02),
        'base_4_heads': _plain(768, depth=12, num_heads=4, head_dims=64, hidden_dims=3072, init_std=0.02),
    }
    has_cls_token = True
    max_stages = 1

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any] = 'small',
        mixer: str | Mapping[str, Any] = 'nystrom',
        stem: str = 'patch',
        position: str = 'learned',
        patch_size: int = 16,
        **shared: Any,
    ) -> None:
        super().__init__(arch=arch, mixer=mixer, patch_size=patch_size, **shared)
        if position not in POSITIONS:
            raise InputError(f'position {position!r} is not one of {", ".join(POSITIONS)}')
        self.stem = stem
        self.position = position
        self._build()

    def _entry(self, stage: int) -> nn.Module:
        (embed_dims,), std = self.arch['embed_dims'], self.arch['init_std']
        return Embedding(
            build_stem(self.stem, self.in_channels, embed_dims, self.patch_size, self.norm_cfg),
            LearnedPosition(embed_dims, self._grid(stage), self.num_prefix, std)
            if self.position == 'learned'
            else None,
            cls_dims=embed_dims if self.num_prefix else None,
            cls_std=std,
        )

    def _mixer(self, stage: int) -> TokenMixer:
        rotary = None
        if self.position in ('rotary', 'axial'):
            rotary = RotaryPosition(self.arch['head_dims'], axial=self.position == 'axial')
        return super()._mixer(stage, rotary=rotary)

    def _block(self, mixer: TokenMixer, hidden_dims: int, drop_path_rate: float) -> nn.Module:
        return MixerBlock(mixer, hidden_dims, drop_path_rate)

    def _pool(self, x: Tensor) -> Tensor:
        return x[:, 0]  # the class token
