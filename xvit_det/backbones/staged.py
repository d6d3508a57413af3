"""What the ViX families share: stages of blocks, each behind an entry, and the outputs."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from xvit_det.backbones.base import Backbone, resolve_arch
from xvit_det.errors import InputError
from xvit_det.functional import tokens_to_map
from xvit_det.layers import FeaturePyramid, checkpoint
from xvit_det.mixers import MIXERS, TokenMixer, build_mixer


class StagedBackbone(Backbone):
    """Stages of blocks. A stage's entry makes its tokens: the first from the image, the others from the tokens before.

    A subclass says in :meth:`_entry`, :meth:`_block` and, where it differs, :meth:`_pool` what these are, and ends its
    constructor with :meth:`_build`. Its architectures have at least the keys ``embed_dims``, ``depths``, ``num_heads``
    and ``hidden_dims``, each with one number for each stage, ``head_dims``, and ``pyramid_indices``, the blocks that
    the pyramid reads. Where a class says so in ``max_stages`` there is one stage only.

    Args:
        arch: A name from ``arch_zoo``, or a dict with the same keys.
        mixer: One of ``mixers`` by name, or a dict of its name under ``type`` and its options.
        img_size: Image side in pixels, or (height, width), that learned tables belong to. Other sizes are possible: the
            tables are resampled.
        patch_size: Stride of the first stage's tokens in pixels; each further stage doubles it.
        in_channels: Channels of the image.
        out_type: ``'pyramid'``: maps at strides 4, 8, 16, 32; ``'featmap'``: the plain maps of ``out_indices``;
            ``'cls_token'``: the vector that the family's classification head takes; ``'avg_featmap'``: the normalised,
            averaged tokens of ``out_indices``. Parameters that it does not use do not exist.
        out_indices: Blocks to read, counted through all stages, negative from the end. ``None``: those of the
            architecture for ``'pyramid'``, else the last.
        drop_path_rate: Probability of skipping a residual branch in training, growing linearly from 0 at the first
            block to this at the last.
        norm_cfg: Norm behind convolutions, wherever there is one: in the stem, between stages, in the attention of
            LeViT and CvT, and in the pyramid: ``BN``, ``SyncBN`` or ``GN``.
        frozen_stages, norm_eval, with_cp, init_cfg: See :class:`Backbone`.

    Raises:
        InputError: A value that is not one of the choices; the message lists them.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping[str, Any]]]
    mixers: ClassVar[Mapping[str, type[TokenMixer]]] = MIXERS
    has_cls_token: ClassVar[bool] = False
    per_stage: ClassVar[tuple[str, ...]] = ('embed_dims', 'depths', 'num_heads', 'hidden_dims')
    max_stages: ClassVar[int | None] = None

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any],
        mixer: str | Mapping[str, Any],
        img_size: int | tuple[int, int] = 224,
        patch_size: int,
        in_channels: int = 3,
        out_type: str = 'pyramid',
        out_indices: int | Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        settings = resolve_arch(arch, self.arch_zoo, {})
        self._check_stages(settings)
        if out_indices is None:
            out_indices = settings['pyramid_indices'] if out_type == 'pyramid' else -1
        super().__init__(
            depth=sum(settings['depths']),
            out_type=out_type,
            out_indices=out_indices,
            in_channels=in_channels,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.arch = settings
        self.mixer = mixer
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        if len(self.img_size) != 2:
            raise InputError(f'img_size={img_size} is not a side or (height, width)')
        self.patch_size = patch_size
        if not (isinstance(patch_size, int) and 1 <= patch_size <= min(self.img_size)):
            raise InputError(f'patch_size={patch_size} is not an integer from 1 to the sides of img_size={img_size}')
        self.norm_cfg = norm_cfg or dict(type='BN')
        self.drop_path_rate = drop_path_rate
        self.num_prefix = int(self.has_cls_token and out_type == 'cls_token')

    def _build(self) -> None:
        depths = self.arch['depths']
        self.stage_of = [stage for stage, depth in enumerate(depths) for _ in range(depth)][: self.num_blocks]
        rates = [self.drop_path_rate * (i / max(sum(depths) - 1, 1)) for i in range(self.num_blocks)]
        self.entries = nn.ModuleList(self._entry(stage) for stage in range(self.stage_of[-1] + 1))
        self.blocks = nn.ModuleList(
            self._block(self._mixer(stage), self.arch['hidden_dims'][stage], rate)
            for stage, rate in zip(self.stage_of, rates, strict=True)
        )
        tapped = [self.stage_of[i] for i in self.out_indices]
        self.out_channels = tuple(self.arch['embed_dims'][stage] for stage in tapped)
        self.out_strides = (
            tuple(self._stride(stage) for stage in tapped) if self.out_type in ('pyramid', 'featmap') else ()
        )
        if self.out_type == 'pyramid':
            self.pyramid = FeaturePyramid(self.out_channels, self.norm_cfg, self.out_strides)
            self.out_strides = self.pyramid.strides
        elif self.out_type != 'featmap':
            self.norms = nn.ModuleList(self._final_norm(channels) for channels in self.out_channels)
        self._freeze()

    def _entry(self, stage: int) -> nn.Module:
        """What makes the stage's tokens: ``(x, size) -> (x, size)``, from the image (and no size) for stage 0."""
        raise NotImplementedError

    def _block(self, mixer: TokenMixer, hidden_dims: int, drop_path_rate: float) -> nn.Module:
        """A block around a mixer: ``(x, size) -> x``."""
        raise NotImplementedError

    def _final_norm(self, channels: int) -> nn.Module:
        """The norm of the last tokens before they are pooled."""
        return nn.LayerNorm(channels)

    def _pool(self, x: Tensor) -> Tensor:
        """Normed tokens (B, N, C) -> the vector (B, C) of ``out_type='cls_token'``: their mean."""
        return x.mean(dim=1)

    def _stride(self, stage: int) -> int:
        return self.patch_size * 2**stage

    def _grid(self, stage: int) -> tuple[int, int]:
        """(h, w) of a stage's map of an image of ``img_size``."""
        return tuple(-(-side // self._stride(stage)) for side in self.img_size)

    def _mixer(self, stage: int, **context: Any) -> TokenMixer:
        num_heads, head_dims = self.arch['num_heads'][stage], self.arch['head_dims']
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
            **context,
        )

    @property
    def stages(self) -> list[list[nn.Module]]:
        first, *others = self.entries
        groups = [[first]]
        for index, block in enumerate(self.blocks):
            starts = index > 0 and self.stage_of[index] != self.stage_of[index - 1]
            groups.append([others[self.stage_of[index] - 1], block] if starts else [block])
        return groups

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of a batch of images.

        Args:
            x: Images (B, in_channels, H, W), of any size from one patch on.

        Returns:
            A tuple, whatever its length: maps (B, C, h, w), or vectors (B, C), see ``out_type``.

        Raises:
            ValueError: ``x`` is not a batch of ``in_channels``-channel images, or they are smaller than a patch or than
                the mixer can work on.
        """
        self._check_input(x)
        stage, size, taps = -1, None, []
        for index, block in enumerate(self.blocks):
            if self.stage_of[index] != stage:
                stage = self.stage_of[index]
                x, size = self.entries[stage](x, size)
                self._check_grid(block, size, stage)
            x = checkpoint(block, x, size) if self._recompute else block(x, size)
            if index in self.out_indices:
                taps.append((x, size))
        return self._output(taps)

    def _output(self, taps: list[tuple[Tensor, tuple[int, int]]]) -> tuple[Tensor, ...]:
        if self.out_type == 'cls_token':
            (x, _), (norm,) = *taps, self.norms
            return (self._pool(norm(x)),)
        if self.out_type == 'avg_featmap':
            return tuple(norm(x).mean(dim=1) for norm, (x, _) in zip(self.norms, taps, strict=True))
        maps = [tokens_to_map(x, size) for x, size in taps]
        return self.pyramid(maps) if self.out_type == 'pyramid' else tuple(maps)

    def _check_stages(self, arch: Mapping[str, Any]) -> None:
        stages = {len(arch[key]) if isinstance(arch[key], Sequence) else 0 for key in self.per_stage}
        if len(stages) != 1 or 0 in stages:
            given = ', '.join(f'{key}={arch[key]}' for key in self.per_stage)
            raise InputError(f'arch needs a sequence with one number for each stage, and as many in each, not {given}')
        if self.max_stages is not None and max(stages) > self.max_stages:
            raise InputError(f'{type(self).__name__} has {self.max_stages} stage, not depths={arch["depths"]}')

    def _check_input(self, x: Tensor) -> None:
        super()._check_input(x)
        if min(x.shape[-2:]) < self.patch_size:
            raise InputError(
                f'an image of {x.shape[-2]} x {x.shape[-1]} pixels is smaller than a patch of {self.patch_size} x '
                f'{self.patch_size}'
            )

    def _check_grid(self, block: nn.Module, size: tuple[int, int], stage: int) -> None:
        if not block.mixer.any_grid and size != self._grid(stage):
            able = ', '.join(name for name, cls in self.mixers.items() if cls.any_grid)
            raise InputError(
                f'{type(block.mixer).__name__} is bound to the {self._grid(stage)} grid of images of {self.img_size}, '
                f'and these give {size}; mixers that take any size: {able}'
            )
