"""ViX: a plain vision transformer with any token mixer.

"Vision Xformers: Efficient Attention for Image Classification" (arXiv 2107.02239): ViT, ViP (Performer), ViL
(Linformer) and ViN (Nyström), plain and hybrid (convolutional stem), with learned or rotary positions. FNet and
MLP-Mixer are ViX with the Fourier and the MLP mixer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xvit_det.backbones.staged import StagedBackbone


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


class ViX(StagedBackbone):
    """A plain vision transformer whose token mixer is chosen by name.

    Args:
        arch: ``'paper'`` for CIFAR-10 and Tiny ImageNet, ``'paper_mixer'`` the same with the narrower MLP of
            MLP-Mixer, ``'tiny'``, ``'small'`` and ``'base'`` with DeiT's sizes, ``'base_4_heads'`` for the ImageNet
            model in the paper's code; or a dict with the same keys, of which ``init_std`` is the standard deviation of
            the initial class token and position table.
        mixer: ``'softmax'``, ``'performer'``, ``'linformer'``, ``'nystrom'``, ``'fourier'``, ``'mlp'``, ``'xnorm'``,
            ``'xca'``, or ``'identity'`` for none, or a dict of the name under ``type`` and options.
        img_size: Image side in pixels, or (height, width), that position tables and Linformer are made for.
        patch_size: Side of a patch, which is the stride of the tokens, in pixels.
        stem: ``'patch'``: linear patches; ``'conv'``: the paper's hybrid; ``'deep_conv'``: X-ViT's; ``'patch_norm'``:
            patches, GELU and LayerNorm; ``'overlap'``: overlapping patches.
        position: ``'learned'``: a table; ``'rotary'``: queries and keys rotated by their position in
            the sequence; ``'axial'``: rotated by row and column; ``'none'``.
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
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        stem: str = 'patch',
        position: str = 'learned',
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
            position=position,
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
