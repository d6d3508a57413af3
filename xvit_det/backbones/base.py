"""What all backbones share: choice of variant and outputs, freezing, layer depth, loading of weights."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xvit_det.backbones.module import PRETRAINED, BaseModule, print_log
from xvit_det.backbones.pretrained import (
    FUSED,
    check_fused,
    load_pretrained,
    log_resampled,
    resample_tables,
    translate_backbone,
)
from xvit_det.errors import InputError
from xvit_det.folding import fold_parts
from xvit_det.layers.drop_path import check_rate
from xvit_det.layers.norm import check_norm_cfg
from xvit_det.layers.pyramid import STRIDES

NO_MASKS = (
    'takes no mask: masked image modelling (MAE, SimMIM, BEiT, ...) needs a backbone made for it; pretrain this one by '
    'MoCo v2, DenseCL, SimSiam, BYOL and the like'
)
OUT_TYPES = ('pyramid', 'featmap', 'cls_token', 'avg_featmap')


def resolve_arch(arch: str | Mapping, zoo: Mapping[str, Mapping], aliases: Mapping[str, str]) -> dict:
    """Look up a named architecture, or check the keys of a custom one.

    Raises:
        InputError: An unknown name, or a missing or unknown key; the message lists the known ones.
    """
    keys = sorted(next(iter(zoo.values())))
    if isinstance(arch, str):
        name = aliases.get(arch, arch)
        if name not in zoo:
            raise InputError(f'arch {arch!r} is not one of {", ".join(zoo)}, or a dict with the keys {", ".join(keys)}')
        return dict(zoo[name])
    if not isinstance(arch, Mapping):
        raise InputError(f'arch={arch!r} is not one of {", ".join(zoo)}, or a dict with the keys {", ".join(keys)}')
    missing, unknown = sorted(set(keys) - set(arch)), sorted(set(arch) - set(keys))
    if missing or unknown:
        raise InputError(f'custom arch needs exactly the keys {keys}; missing {missing}, unknown {unknown}')
    return dict(arch)


def resolve_indices(indices: int | Sequence[int], depth: int) -> tuple[int, ...]:
    """Resolve block numbers, where negative ones count from the end, to ascending numbers in [0, depth).

    Raises:
        InputError: An index out of range, not an integer, or out of order.
    """
    given = list(indices) if isinstance(indices, Sequence) else [indices]
    if not all(isinstance(i, int) and -depth <= i < depth for i in given):
        raise InputError(f'out_indices={indices} has a value that is not an integer in [{-depth}, {depth - 1}]')
    resolved = tuple(i % depth for i in given)
    if not resolved or list(resolved) != sorted(set(resolved)):
        raise InputError(f'out_indices={indices} does not name one or more blocks in ascending order')
    return resolved


def resolve_outputs(
    out_type: str,
    out_indices: int | Sequence[int] | None,
    out_strides: int | Sequence[int] | None,
    pyramid_indices: Sequence[int],
    depth: int,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The blocks to read, and the strides of the pyramid's maps; no strides for other outputs.

    Args:
        out_type: One of ``OUT_TYPES``.
        out_indices, out_strides: As the user gave them, see :class:`Backbone`.
        pyramid_indices: The blocks that a pyramid of strides 4, 8, 16, 32 reads unless told otherwise.
        depth: Number of blocks.

    Raises:
        InputError: Values that are not possible, or do not go together.
    """
    if out_type != 'pyramid':
        if out_strides is not None:
            raise InputError(f'out_strides={out_strides} needs out_type pyramid, not {out_type}')
        return resolve_indices(-1 if out_indices is None else out_indices, depth), ()
    if out_strides is None:
        indices = resolve_indices(pyramid_indices if out_indices is None else out_indices, depth)
        if len(indices) not in (3, 4):
            raise InputError(
                f'out_type pyramid needs four out_indices, or three to start at stride 8, not {out_indices}; '
                f'out_strides selects any of the strides {STRIDES}'
            )
        return indices, STRIDES[-len(indices) :]
    strides = (out_strides,) if isinstance(out_strides, int) else tuple(out_strides)
    if not strides or strides != tuple(stride for stride in STRIDES if stride in strides):
        raise InputError(f'out_strides={out_strides} is not one or more of {STRIDES} in ascending order')
    if out_indices is None:
        out_indices = [pyramid_indices[STRIDES.index(stride)] for stride in strides]
    indices = resolve_indices(out_indices, depth)
    if len(indices) != len(strides):
        raise InputError(f'out_indices={out_indices} and out_strides={out_strides} are not of the same length')
    return indices, strides


def find_backbone(model: nn.Module) -> tuple[str, 'Backbone']:
    """The backbone of this package in a model, and its name there, which is empty for the backbone itself.

    Raises:
        InputError: The model has no backbone of this package, more than one, or one that is fused.
    """
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, Backbone)]
    if not found:
        raise InputError(f'{type(model).__name__} has no backbone of xvit_det')
    if len(found) > 1:
        raise InputError(f'{type(model).__name__} has {len(found)} backbones of xvit_det, not one')
    if found[0][1].is_fused:
        raise InputError(f'this {type(found[0][1]).__name__} is fused: load and use it before fuse()')
    return found[0]


class Backbone(BaseModule, ABC):
    """Base of all backbones. A subclass calls this constructor, builds its modules, and ends with :meth:`_freeze`.

    Args:
        out_type: One of ``OUT_TYPES``.
        out_indices: Blocks whose outputs are returned, 0-based, negative from the end. ``None``: ``pyramid_indices``
            for ``'pyramid'``, else the last. Blocks after the last of them are not built, which is logged.
        out_strides: Strides of the pyramid's maps: one or more of 4, 8, 16, 32. ``None``: all of them, or the last
            three if there are three ``out_indices``.
        in_channels: Channels of the image.
        drop_path_rate: Probability of skipping a residual branch in training.
        depth: Number of blocks that ``out_indices`` may name.
        pyramid_indices: The blocks that a pyramid of all four strides reads by default.
        frozen_stages: -1: nothing is frozen; 0: the stem; k: the stem and the first k blocks. Frozen parts get no
            gradient and stay in evaluation mode.
        norm_eval: Keep BatchNorm layers in evaluation mode while training.
        mask_padding: Keep the padding of a batch out of all that an image's outputs depend on.
        with_cp: Recompute the blocks' activations in the backward pass, which trades time for memory.
        norm_cfg: See :func:`xvit_det.layers.build_norm`; ``None``: BatchNorm.
        init_cfg: OpenMMLab's; ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')`` loads weights through
            :func:`load_pretrained`, which reports what matched.

    Attributes:
        out_channels: Channels of every output.
        out_strides: Stride of every output map; empty for vectors.

    Raises:
        InputError: A value that is not one of the choices; the message lists them.
    """

    out_channels: tuple[int, ...]
    out_strides: tuple[int, ...]
    init_cfg: Any  # of BaseModule
    is_init: bool
    # Name prefixes of weights that no classification checkpoint has.
    new_in_detection: ClassVar[tuple[str, ...]] = ('pyramid.',)

    def __init__(
        self,
        *,
        depth: int,
        pyramid_indices: Sequence[int],
        out_type: str,
        out_indices: int | Sequence[int] | None,
        out_strides: int | Sequence[int] | None,
        in_channels: int,
        drop_path_rate: float,
        frozen_stages: int,
        norm_eval: bool,
        mask_padding: bool,
        with_cp: bool,
        norm_cfg: dict | None,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        cfgs = [init_cfg or {}] if isinstance(init_cfg, Mapping | None) else init_cfg
        if not (isinstance(cfgs, Sequence) and all(isinstance(cfg, Mapping) for cfg in cfgs)):
            raise InputError(f'init_cfg={init_cfg!r} is not a dict with a type, or a list of such dicts')
        super().__init__(init_cfg)
        if not (isinstance(in_channels, int) and in_channels > 0):
            raise InputError(f'in_channels={in_channels!r} is not a whole number of at least 1')
        for name, flag in dict(norm_eval=norm_eval, mask_padding=mask_padding, with_cp=with_cp).items():
            if flag not in (True, False):
                raise InputError(f'{name}={flag!r} is not True or False')
        check_rate(drop_path_rate)  # before it is scaled for each block
        self.norm_cfg = dict(type='BN') if norm_cfg is None else norm_cfg
        check_norm_cfg(self.norm_cfg)
        if out_type not in OUT_TYPES:
            raise InputError(f'out_type {out_type!r} is not one of {", ".join(OUT_TYPES)}')
        self.out_type = out_type
        self.in_channels = in_channels
        self.out_indices, self.pyramid_strides = resolve_outputs(
            out_type, out_indices, out_strides, pyramid_indices, depth
        )
        if out_type == 'cls_token' and self.out_indices != (depth - 1,):
            raise InputError(f'out_type cls_token reads the last block only, not out_indices={out_indices}')
        self.depth = depth
        # Blocks after the last output would never get a gradient, so they are not built.
        self.num_blocks = self.out_indices[-1] + 1
        if self.num_blocks < depth and not (out_indices is None and out_strides is None):
            print_log(
                f'{type(self).__name__}: the last output is that of block {self.num_blocks} of {depth} '
                f'(out_indices={self.out_indices}), so {depth - self.num_blocks} blocks are not built',
                logger='current',
                level=logging.WARNING,
            )
        if not (isinstance(frozen_stages, int) and -1 <= frozen_stages <= self.num_blocks):
            raise InputError(f'frozen_stages={frozen_stages} is not in [-1, {self.num_blocks}]')
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.mask_padding = mask_padding
        self.with_cp = with_cp

    @property
    @abstractmethod
    def layer_groups(self) -> list[list[nn.Module]]:
        """The units of ``frozen_stages`` and layer decay: the modules of the stem, then those of each block."""

    def init_weights(self) -> None:
        """Apply ``init_cfg``, pretrained weights last."""
        if self.is_init:
            return
        init_cfg = self.init_cfg
        cfgs = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or [])
        pretrained = [cfg for cfg in cfgs if cfg.get('type') in PRETRAINED]
        if any('checkpoint' not in cfg for cfg in pretrained):
            raise InputError(f'init_cfg={init_cfg!r} has no checkpoint')
        self.init_cfg = [cfg for cfg in cfgs if cfg not in pretrained]
        try:
            super().init_weights()
            self.is_init = False  # until the last weight is loaded
            for cfg in pretrained:
                load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))
            self.is_init = True
        finally:
            self.init_cfg = init_cfg

    def train(self, mode: bool = True) -> 'Backbone':
        """Set the mode; frozen parts, and BatchNorm layers with ``norm_eval``, stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    @property
    def is_fused(self) -> bool:
        """Whether :meth:`fuse` was called."""
        return FUSED in self._buffers

    def fuse(self) -> 'Backbone':
        """Fold every norm, affine and scale that is constant after training into neighbouring weights, in place.

        Outputs change by rounding only, at any image size. A fused backbone is for inference: its parameters require no
        gradient. It can be saved, loaded into another fused model, copied, compiled and exported. A backbone that is
        fused already stays as it is.

        Returns:
            The backbone itself.

        Raises:
            InputError: The backbone is in training mode.
        """
        if any(module.training for module in self.modules()):
            raise InputError(
                'fuse() needs a model in evaluation mode: call eval() first, because norms change during training'
            )
        if not self.is_fused:
            fold_parts(self)
            self.requires_grad_(False)
            self.register_buffer(FUSED, torch.ones((), dtype=torch.bool, device=next(self.parameters()).device))
        return self

    def switch_to_deploy(self) -> 'Backbone':
        """OpenMMLab's name for :meth:`fuse`."""
        return self.fuse()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for layer-wise learning-rate decay.

        Args:
            param_name: The parameter's full name.
            prefix: What precedes the backbone's own names, such as ``'backbone.'``.

        Returns:
            The depth (0 for the stem, i + 1 for block i, the largest for everything after the blocks or outside the
            backbone), and the number of depths.
        """
        num_layers = len(self.layer_groups) + 1
        if param_name.startswith(prefix):
            parameter = dict(self.named_parameters()).get(param_name[len(prefix) :])
            for depth, modules in enumerate(self.layer_groups):
                if any(parameter is p for module in modules for p in module.parameters()):
                    return depth, num_layers
        return num_layers - 1, num_layers

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters without weight decay: norms, biases, affines, gammas, temperatures, class token,
        position table."""
        return {
            name
            for name, parameter in self.named_parameters()
            if parameter.ndim <= 1
            or name.endswith(('cls_token', 'pos_embed.table', '.temperature'))
            or '.gamma_' in name
        }

    def _load_from_state_dict(self, state_dict: MutableMapping[str, Tensor], prefix: str, *args: Any) -> None:
        # Called on every load path, before the submodules load from the same dict.
        translate_backbone(self, state_dict, prefix)
        check_fused(self, state_dict, prefix)
        log_resampled(type(self).__name__, resample_tables(self, state_dict, prefix))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _refuse(self, mask: Tensor | None) -> None:
        if mask is not None:
            raise InputError(f'{type(self).__name__} {NO_MASKS}; image_sizes are given by keyword')

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise InputError(f'input shape {tuple(x.shape)} is not (batch, {self.in_channels}, height, width)')

    @property
    def _recompute(self) -> bool:
        return self.with_cp and self.training and torch.is_grad_enabled()

    def _freeze(self) -> None:
        for modules in self.layer_groups[: self.frozen_stages + 1]:
            for module in modules:
                module.eval()
                module.requires_grad_(False)
