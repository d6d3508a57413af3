"""Norms of maps, selected by an OpenMMLab ``norm_cfg``."""

from collections.abc import Mapping
from typing import TypeGuard

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xvit_det.errors import InputError, suggest
from xvit_det.folding import LinearOrConv, fold_after
from xvit_det.signatures import constructor_arguments

_NORMS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm, 'GN': nn.GroupNorm}


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Build the norm of a map with ``channels`` channels.

    Args:
        norm_cfg: ``dict(type='BN' | 'SyncBN' | 'GN', ...)`` with the options of the PyTorch class, ``num_groups`` for
            ``GN``, and OpenMMLab's ``requires_grad`` (default true).
        channels: Number of channels.

    Raises:
        InputError: An unknown type or option, or channels that are not divisible by the groups.
    """
    check_norm_cfg(norm_cfg)
    options = dict(norm_cfg)
    kind = options.pop('type')
    requires_grad = options.pop('requires_grad', True)
    if kind == 'GN' and channels % options['num_groups']:
        raise InputError(f'norm_cfg GN needs num_groups that divides {channels} channels, not {options["num_groups"]}')
    norm = nn.GroupNorm(num_channels=channels, **options) if kind == 'GN' else _NORMS[kind](channels, **options)
    return norm.requires_grad_(requires_grad)


def check_norm_cfg(norm_cfg: object) -> None:
    """Check all that does not depend on the number of channels, for backbones whose variant has no such norm.

    Args:
        norm_cfg: As for :func:`build_norm`.

    Raises:
        InputError: It is no dict of a known type and that type's options.
    """
    if not isinstance(norm_cfg, Mapping) or norm_cfg.get('type') not in _NORMS:
        kind = norm_cfg.get('type') if isinstance(norm_cfg, Mapping) else norm_cfg
        raise InputError(f'norm_cfg type {kind!r} is not one of {", ".join(_NORMS)}: write norm_cfg=dict(type=...)')
    known = {'type', 'requires_grad', *(constructor_arguments(_NORMS[norm_cfg['type']]) or ())}
    if unknown := sorted({*norm_cfg} - known):
        raise InputError(
            f'norm_cfg {norm_cfg["type"]} has no option {unknown[0]!r}; {suggest(unknown[0], sorted(known))}'
        )
    groups = norm_cfg.get('num_groups')
    if norm_cfg['type'] == 'GN' and not (isinstance(groups, int) and groups > 0):
        raise InputError(f'norm_cfg GN needs num_groups that divides the channels, not {groups!r}')


def is_constant(norm: nn.Module) -> TypeGuard[_BatchNorm]:
    """Whether a norm is a fixed scale and shift in evaluation mode, like BatchNorm with running statistics."""
    return isinstance(norm, _BatchNorm) and norm.running_mean is not None


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The ``s`` and ``t`` (C,) with which a BatchNorm in evaluation mode is ``s · x + t``."""
    assert norm.running_mean is not None and norm.running_var is not None, 'see is_constant'
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def fold_norm(layer: LinearOrConv, norm: nn.Module) -> nn.Module:
    """Fold a norm into the layer before it if it is constant; returns what takes the norm's place."""
    if not is_constant(norm):
        return norm
    fold_after(layer, *scale_and_shift(norm))
    return nn.Identity()
