"""X-ViT in timm: ``import xvit_det.interop.timm`` registers ``xvit_tiny``, ``_small``, ``_medium`` and ``_base``.

Each also as ``xvit_tiny_pyramid``, of which ``features_only=True`` gives maps at strides 4, 8, 16 and 32. After that,
``timm.create_model`` builds them, and timm's scripts train and validate them. The weights have the names of
:class:`xvit_det.XViT`, with ``head`` for the classifier; a checkpoint of an ImageNet config loads as it is.
"""

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from xvit_det.backbones import XViT
from xvit_det.backbones.pretrained import translate_backbone
from xvit_det.errors import InputError
from xvit_det.functional import tokens_to_map

POOLS = ('token', 'avg', '')
OUTPUT_FORMATS = ('NCHW', 'NLC')


class TimmXViT(XViT):
    """:class:`xvit_det.XViT` as an image classifier with timm's methods.

    Args:
        arch: As for :class:`xvit_det.XViT`.
        num_classes: Classes of the linear head; 0: none.
        in_chans: Channels of the image.
        global_pool: What the head takes: ``'token'``: the class token; ``'avg'``: the mean of the other tokens; ``''``:
            nothing is pooled, and without a head all tokens are returned.
        drop_rate: Dropout in front of the head.
        drop_path_rate: As for :class:`xvit_det.XViT`.
        **options: Other arguments of :class:`xvit_det.XViT`, such as ``mixer`` and ``patch_size``.

    Raises:
        InputError: A value that is not one of the choices.
    """

    def __init__(
        self,
        arch: str = 'small',
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = 'token',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(
            arch=arch, in_channels=in_chans, out_type='cls_token', drop_path_rate=drop_path_rate, **options
        )
        self.num_features = self.head_hidden_size = self.embed_dims
        self.feature_info = [
            dict(num_chs=self.embed_dims, reduction=self.patch_size, module=f'blocks.{i}')
            for i in range(len(self.blocks))
        ]
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)
        self.register_load_state_dict_pre_hook(_own_names)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one; see the constructor."""
        if global_pool is not None:
            if global_pool not in POOLS:
                raise InputError(f'global_pool {global_pool!r} is not one of {POOLS}')
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass, or not."""
        self.with_cp = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters belong to which layer, for timm's layer-wise learning rates."""
        return dict(
            stem=r'^cls_token|pos_embed|stem', blocks=r'^blocks\.(\d+)', cls_attn_blocks=r'^class_blocks\.(\d+)'
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> the class token and the other tokens, normalised (B, 1 + N, d)."""
        (x,), *_ = self._tokens(x, [len(self.blocks) - 1])
        return self._with_class_token(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Tokens (B, 1 + N, d) -> scores (B, num_classes), or with ``pre_logits`` what the head takes."""
        if self.global_pool:
            x = x[:, 0] if self.global_pool == 'token' else x[:, 1:].mean(dim=1)
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Images (B, C, H, W) -> scores (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The outputs of several blocks, and those of :meth:`forward_features`.

        Args:
            x: Images (B, C, H, W).
            indices: Blocks; a number means the last so many, ``None`` all.
            norm: Apply the last norm to each.
            stop_early: With ``intermediates_only``, leave out the blocks after the last of them.
            output_fmt: ``'NCHW'``: maps (B, d, h, w), or ``'NLC'``: tokens (B, N, d).
            intermediates_only: Return the list alone.
        """
        if output_fmt not in OUTPUT_FORMATS:
            raise InputError(f'output_fmt {output_fmt!r} is not one of {", ".join(OUTPUT_FORMATS)}')
        take, last = feature_take_indices(len(self.blocks), indices)
        final = last if stop_early and intermediates_only else len(self.blocks) - 1
        taps, size, *_ = self._tokens(x, sorted({*take, final}))
        by_index = dict(zip(sorted({*take, final}), taps, strict=False))
        kept = [self.norm(by_index[i]) if norm else by_index[i] for i in take]
        if output_fmt == 'NCHW':
            kept = [tokens_to_map(tokens, size) for tokens in kept]  # (B, N, d) -> (B, d, h, w)
        return kept if intermediates_only else (self._with_class_token(by_index[final]), kept)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the outputs of the blocks ``indices`` do not need; the blocks' numbers, from the front."""
        take, last = feature_take_indices(len(self.blocks), indices)
        self.blocks = self.blocks[: last + 1]
        if prune_norm:
            self.add_module('norm', nn.Identity())
        if prune_head:
            self.class_blocks = nn.ModuleList()
            self.reset_classifier(0, '')
        return take

    def _with_class_token(self, x: Tensor) -> Tensor:
        return self.norm(torch.cat(self._class_attention(x), dim=1))


class TimmXViTPyramid(XViT):
    """:class:`xvit_det.XViT` with its pyramid, for what reads several strides through timm's ``features_only``.

    Args:
        arch: As for :class:`xvit_det.XViT`.
        num_classes: 0: it has no classifier.
        in_chans: Channels of the image.
        **options: Other arguments of :class:`xvit_det.XViT`, such as ``mixer`` and ``drop_path_rate``.

    Raises:
        InputError: A number of classes.
    """

    def __init__(self, arch: str = 'small', num_classes: int = 0, in_chans: int = 3, **options: Any) -> None:
        if num_classes:
            raise InputError(
                f'num_classes={num_classes}: the pyramid has no classifier; create the model without _pyramid'
            )
        super().__init__(arch=arch, in_channels=in_chans, **options)
        self.num_classes = 0
        self.num_features = self.embed_dims
        self.feature_info = [
            dict(num_chs=channels, reduction=stride, module=f'pyramid.levels.{i}')
            for i, (channels, stride) in enumerate(zip(self.out_channels, self.out_strides, strict=True))
        ]
        self.register_load_state_dict_pre_hook(_own_names)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass, or not."""
        self.with_cp = enable

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = True,
    ) -> list[Tensor]:
        """The maps (B, d, h, w) of the levels ``indices``.

        Raises:
            InputError: Another format than maps, or more than the list is asked for.
        """
        if output_fmt != 'NCHW' or not intermediates_only:
            raise InputError('the pyramid gives NCHW maps alone: output_fmt="NCHW", intermediates_only=True')
        maps = self(x)
        return [maps[i] for i in feature_take_indices(len(maps), indices)[0]]

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """The levels' numbers, from the front; nothing is dropped."""
        return feature_take_indices(len(self.out_strides), indices)[0]


def _own_names(module: nn.Module, weights: MutableMapping[str, Tensor], prefix: str, *args: Any) -> None:
    """Take the names of an ImageNet config's checkpoint, a backbone and ``head.fc``, and those that are translated."""
    translate_backbone(module, weights, prefix)
    for name in list(weights):
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and own.startswith(('backbone.', 'head.fc.')):
            weights[prefix + own.removeprefix('backbone.').replace('head.fc.', 'head.')] = weights.pop(name)


def _default_cfg() -> dict[str, Any]:
    """How images are prepared, as in configs/_base_/datasets/imagenet_224_full_crop.py."""
    return dict(
        url='',
        num_classes=1000,
        input_size=(3, 224, 224),
        pool_size=None,
        crop_pct=1.0,
        interpolation='bicubic',
        fixed_input_size=False,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        first_conv='stem.convs.0',
        classifier='head',
        license='mit',
    )


ARCHS = ('tiny', 'small', 'medium', 'base')
default_cfgs = generate_default_cfgs(
    {f'xvit_{arch}': _default_cfg() for arch in ARCHS}
    | {f'xvit_{arch}_pyramid': _default_cfg() | dict(num_classes=0, classifier=None) for arch in ARCHS}
)


def _create(variant: str, pretrained: bool, options: dict[str, Any]) -> XViT:
    _, arch, *pyramid = variant.split('_')
    features = dict(out_indices=options.pop('out_indices', 4), feature_cls='getter')
    model = TimmXViTPyramid if pyramid else TimmXViT
    return build_model_with_cfg(model, variant, pretrained, feature_cfg=features, **dict(arch=arch) | options)


def _register(variant: str) -> None:
    """Register a variant under its name, as a function of this module that builds it."""

    def build(pretrained: bool = False, **options: Any) -> XViT:
        return _create(variant, pretrained, options)

    build.__name__ = build.__qualname__ = variant
    build.__doc__ = f'{variant}, see arXiv 2109.14382.'
    globals()[variant] = register_model(build)


for _variant in default_cfgs:
    _register(_variant)
