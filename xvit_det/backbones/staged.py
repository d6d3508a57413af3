"""What the ViX families share: stages of blocks, and their way from an image to maps or vectors."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from xvit_det.backbones.base import Backbone, resolve_arch
from xvit_det.errors import InputError
from xvit_det.functional import mean_token, tokens_to_map
from xvit_det.layers import Embedding, FeaturePyramid, ImageExtents, LearnedPosition, MixerBlock, build_stem, checkpoint
from xvit_det.layers.padding import find_extents
from xvit_det.mixers import MIXERS, RotaryPosition, TokenMixer, build_mixer

POSITIONS = ('learned', 'rotary', 'axial', 'none')


class StagedBackbone(Backbone):
    """Stages of blocks. Each stage starts with an entry: the first turns the image into tokens, later ones downsample.

    A subclass lists its arguments, passes them on, and overrides the methods and class attributes in which it differs:
    :meth:`_entry`, :meth:`_norm`, :meth:`_final_norm`, :meth:`_pool`, :meth:`_stride`. The constructor calls them, so a
    family's own settings belong in its ``arch``.

    Every arch has the keys ``embed_dims``, ``depths``, ``num_heads`` and ``hidden_dims``, each with one number per
    stage, ``head_dims``, and ``pyramid_indices``, the blocks that the pyramid reads.

    Args:
        arch: A name from ``arch_zoo``, or a dict with the same keys.
        mixer: One of ``mixers`` by name, or a dict of its name under ``type`` and its options.
        img_size: Image side in pixels, or (height, width), for which position tables and Linformer's projections are
            made. For other sizes they are resampled.
        patch_size: Stride of the first stage's tokens in pixels.
        stem: How the first stage embeds the image, one of ``xvit_det.layers.STEMS``.
        position: ``'learned'``: a table added to the tokens; ``'rotary'``: queries and keys rotated by their position
            in the sequence; ``'axial'``: rotated by row and column; ``'none'``.
        in_channels: Channels of the image.
        out_type: ``'pyramid'``: maps at strides 4, 8, 16, 32; ``'featmap'``: the plain maps of ``out_indices``;
            ``'cls_token'``: the vector that the family's classification head takes; ``'avg_featmap'``: the normalised,
            averaged tokens of ``out_indices``. Parameters that the chosen output does not use are not created.
        out_indices: Blocks to read, counted through all stages, negative from the end. ``None``: those of the
            architecture for ``'pyramid'``, else the last. Blocks after the last of them are not built.
        out_strides: Strides of the pyramid's maps, such as ``(8, 16, 32)``, or ``32`` for a single map; each is read
            from its usual block. ``None``: 4, 8, 16, 32.
        drop_path_rate: Probability of skipping a residual branch in training, growing linearly from 0 at the first
            block to this value at the last.
        mask_padding: Mask the padding of a batch, so that an image's maps do not depend on the batch it is in, as in
            :class:`xvit_det.XViT`. Possible with mixers that do not depend on the size of the whole map: softmax,
            Performer without local heads, XNorm, XCA and identity.
        frozen_stages, norm_eval, with_cp: See :class:`Backbone`.
        norm_cfg: Norm of convolutions, wherever there is one: in the stem, between stages, in the attention of LeViT
            and CvT, and in the pyramid: ``BN``, ``SyncBN`` or ``GN``.
        norm_eps: Epsilon of the LayerNorms.
        init_cfg: See :class:`Backbone`.

    Raises:
        InputError: A value that is not one of the choices; the message lists them.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping[str, Any]]]
    mixers: ClassVar[Mapping[str, type[TokenMixer]]] = MIXERS
    block: ClassVar[type[MixerBlock]] = MixerBlock
    has_cls_token: ClassVar[bool] = False  # for out_type='cls_token'; without one, tokens are averaged
    per_stage: ClassVar[tuple[str, ...]] = ('embed_dims', 'depths', 'num_heads', 'hidden_dims')
    max_stages: ClassVar[int | None] = None

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any],
        mixer: str | Mapping[str, Any],
        img_size: int | tuple[int, int],
        patch_size: int,
        stem: str = 'patch',
        position: str = 'none',
        in_channels: int,
        out_type: str,
        out_indices: int | Sequence[int] | None,
        out_strides: int | Sequence[int] | None,
        drop_path_rate: float,
        frozen_stages: int,
        norm_eval: bool,
        mask_padding: bool,
        with_cp: bool,
        norm_cfg: dict | None,
        norm_eps: float = 1e-5,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        settings = resolve_arch(arch, self.arch_zoo, {})
        self._check_stages(settings)
        depths = settings['depths']
        super().__init__(
            depth=sum(depths),
            pyramid_indices=settings['pyramid_indices'],
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
        self.arch = settings
        self.mixer = mixer
        sides = tuple(img_size) if isinstance(img_size, Sequence) else (img_size, img_size)
        if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
            raise InputError(f'img_size={img_size!r} is not a side or (height, width)')
        self.img_size: tuple[int, int] = sides
        self.patch_size = patch_size
        if not (isinstance(patch_size, int) and 1 <= patch_size <= min(self.img_size)):
            raise InputError(f'patch_size={patch_size} is not an integer from 1 to the sides of img_size={img_size}')
        self.stem = stem
        self.position = position
        if position not in POSITIONS:
            raise InputError(f'position {position!r} is not one of {", ".join(POSITIONS)}')
        self.norm_eps = norm_eps
        self.num_prefix = int(self.has_cls_token and out_type == 'cls_token')

        self.stage_of = [stage for stage, depth in enumerate(depths) for _ in range(depth)][: self.num_blocks]
        self.entries = nn.ModuleList(self._entry(stage) for stage in range(self.stage_of[-1] + 1))
        self.blocks = nn.ModuleList(
            self.block(
                self._mixer(stage),
                settings['hidden_dims'][stage],
                drop_path_rate * (index / max(sum(depths) - 1, 1)),
                self._norm,
            )
            for index, stage in enumerate(self.stage_of)
        )
        if mask_padding:
            self._check_masking()
        tapped = [self.stage_of[i] for i in self.out_indices]
        strides = tuple(self._stride(stage) for stage in tapped)
        self.out_channels = tuple(settings['embed_dims'][stage] for stage in tapped)
        self.out_strides = strides if out_type == 'featmap' else ()
        if out_type == 'pyramid':
            self.pyramid = FeaturePyramid(self.out_channels, self.norm_cfg, strides, self.pyramid_strides)
            self.out_strides = self.pyramid.strides
        elif out_type != 'featmap':
            self.norms = nn.ModuleList(self._final_norm(channels) for channels in self.out_channels)
        self._freeze()

    def forward(self, x: Tensor, mask: None = None, *, image_sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the features of a batch of images.

        Args:
            x: Images (B, in_channels, H, W), at least one patch high and wide.
            mask: ``None``. MMPretrain's masked image modelling passes the mask here, which is refused.
            image_sizes: (B, 2) integers, the height and width in pixels that each image of a padded batch covers. Used
                with ``mask_padding`` only; ``None``: found by the padding's zeros.

        Returns:
            A tuple, also of a single output: maps (B, C, h, w), or vectors (B, C), see ``out_type``.

        Raises:
            InputError: ``x`` is not a batch of ``in_channels``-channel images, they are smaller than a patch or than
                the mixer can work on, ``image_sizes`` does not fit, or a mask is given.
        """
        self._refuse(mask)
        self._check_input(x)
        stage, taps = -1, []
        size: Any = None  # (h, w) of the token map; None while x is still the image
        extents, valid = None, None
        if self.mask_padding:
            x, extents = find_extents(x, image_sizes)
        for index, block in enumerate(self.blocks):
            if self.stage_of[index] != stage:
                stage = self.stage_of[index]
                if valid is not None:
                    x = x * valid[..., None]  # zero, like the area around the map
                x, size = self.entries[stage](x, size, extents)
                valid = None if extents is None else extents.valid(size, self._stride(stage), self.num_prefix)
                self._check_grid(block.get_submodule('mixer'), size, stage)
            x = checkpoint(block, x, size, valid) if self._recompute else block(x, size, valid)
            if index in self.out_indices:
                taps.append((x, size, valid))
        return self._output(taps, extents)

    def _output(
        self, taps: list[tuple[Tensor, tuple[int, int], Tensor | None]], extents: ImageExtents | None
    ) -> tuple[Tensor, ...]:
        if self.out_type == 'cls_token':
            (x, _, valid), (norm,) = *taps, self.norms
            return (self._pool(norm(x), valid),)
        if self.out_type == 'avg_featmap':
            return tuple(mean_token(norm(x), valid) for norm, (x, _, valid) in zip(self.norms, taps, strict=True))
        maps = [tokens_to_map(x, size) for x, size, _ in taps]  # (B, N, C) -> (B, C, h, w)
        return self.pyramid(maps, extents) if self.out_type == 'pyramid' else tuple(maps)

    def _entry(self, stage: int) -> nn.Module:
        """What makes a stage's tokens: ``(x, size, extents) -> (x, size)``; stage 0 takes the image, and ``None`` for a
        size. ``extents``: the area that each image of a padded batch covers, or ``None``; x is zero in the rest.

        The default is an embedding, for stage 0; families with more stages override it.
        """
        embed_dims, init_std = self.arch['embed_dims'][0], self.arch.get('init_std', 1.0)
        return Embedding(
            build_stem(self.stem, self.in_channels, embed_dims, self.patch_size, self.norm_cfg),
            self.patch_size,
            LearnedPosition(embed_dims, self._grid(0), num_prefix=self.num_prefix, std=init_std)
            if self.position == 'learned'
            else None,
            cls_dims=embed_dims if self.num_prefix else None,
            cls_std=init_std,
        )

    def _mixer(self, stage: int) -> TokenMixer:
        num_heads, head_dims = self.arch['num_heads'][stage], self.arch['head_dims']
        rotary = None
        if self.position in ('rotary', 'axial'):
            rotary = RotaryPosition(head_dims, axial=self.position == 'axial')
        return build_mixer(
            self.mixer,
            self.mixers,
            embed_dims=self.arch['embed_dims'][stage],
            num_heads=num_heads,
            head_dims=head_dims,
            attn_dims=num_heads * head_dims,
            grid=self._grid(stage),
            num_prefix=self.num_prefix,
            norm_cfg=self.norm_cfg,
            rotary=rotary,
        )

    def _norm(self, channels: int) -> nn.Module:
        """The norm before a mixer or an MLP."""
        return nn.LayerNorm(channels, eps=self.norm_eps)

    def _final_norm(self, channels: int) -> nn.Module:
        """The norm of the last tokens before they are pooled."""
        return self._norm(channels)

    def _pool(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Normalised tokens (B, N, C), of which some are ``valid`` -> the vector (B, C) of ``out_type='cls_token'``."""
        return x[:, 0] if self.num_prefix else mean_token(x, valid)

    def _stride(self, stage: int) -> int:
        """Stride of a stage's tokens in pixels: each stage doubles it."""
        return self.patch_size * 2**stage

    def _grid(self, stage: int) -> tuple[int, int]:
        """(h, w) of a stage's map of an image of ``img_size``."""
        stride = self._stride(stage)
        return -(-self.img_size[0] // stride), -(-self.img_size[1] // stride)

    @property
    def layer_groups(self) -> list[list[nn.Module]]:
        first, *others = self.entries
        groups = [[first]]
        for index, block in enumerate(self.blocks):
            starts = index > 0 and self.stage_of[index] != self.stage_of[index - 1]
            groups.append([others[self.stage_of[index] - 1], block] if starts else [block])
        return groups

    def _check_stages(self, arch: Mapping[str, Any]) -> None:
        stages = {len(arch[key]) if isinstance(arch[key], Sequence) else 0 for key in self.per_stage}
        if len(stages) != 1 or 0 in stages:
            given = ', '.join(f'{key}={arch[key]}' for key in self.per_stage)
            raise InputError(f'arch needs sequences of one number per stage, all of the same length, not {given}')
        if self.max_stages is not None and max(stages) > self.max_stages:
            raise InputError(f'{type(self).__name__} has {self.max_stages} stage, not depths={arch["depths"]}')

    def _check_input(self, x: Tensor) -> None:
        super()._check_input(x)
        if min(x.shape[-2:]) < self.patch_size:
            raise InputError(
                f'an image of {x.shape[-2]} x {x.shape[-1]} pixels is smaller than a patch of {self.patch_size} x '
                f'{self.patch_size}'
            )

    def _check_masking(self) -> None:
        able = ', '.join(name for name, cls in self.mixers.items() if not cls.feels_padding)
        for block in self.blocks:
            mixer = block.get_submodule('mixer')
            reason = f'{type(mixer).__name__}: {mixer.feels_padding}' if mixer.feels_padding else ''
            if self.position == 'rotary':
                reason = "position='rotary', which counts tokens along the rows of the whole map; take 'axial'"
            if reason:
                raise InputError(f'mask_padding=True is not possible with {reason}; mixers that can be masked: {able}')

    def _check_grid(self, mixer: nn.Module, size: tuple[int, int], stage: int) -> None:
        if not mixer.any_grid and size != self._grid(stage):
            able = ', '.join(name for name, cls in self.mixers.items() if cls.any_grid)
            raise InputError(
                f'{type(mixer).__name__} is bound to the {self._grid(stage)} grid of images of {self.img_size}, '
                f'and these give {size}; mixers that take any size: {able}'
            )
