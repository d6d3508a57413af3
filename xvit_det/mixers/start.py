"""A start for a mixer that takes the place of another: the other's weights, wherever they have a counterpart."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from xvit_det.mixers.base import TokenMixer
from xvit_det.mixers.xca import CrossCovarianceAttention
from xvit_det.mixers.xnorm import XNormAttention


@torch.no_grad()
def start_from(new: TokenMixer, old: TokenMixer) -> list[str]:
    """Give a mixer the weights of another one, by name and shape, where ``qkv`` is q, k and v in one.

    XNorm attention multiplies queries by a matrix of keys and values, XCA values by a matrix of queries and keys: from
    one to the other, q and v change places. A projection without a bias has a bias of zero, and Nyström's convolution,
    which no other mixer has, starts at zero.

    Args:
        new: Changed in place.
        old: The mixer whose place it takes.

    Returns:
        Names of the weights that are now the old mixer's; all others are left as they were.
    """
    swap = {type(new), type(old)} == {XNormAttention, CrossCovarianceAttention}
    weights = _separate(old.state_dict(), 'vkq' if swap else 'qkv')
    taken = []
    for name, own in new.state_dict().items():
        first, _, kind = name.partition('.')
        weight = weights.get(name)
        if first == 'qkv' and all(f'{part}.{kind}' in weights for part in 'qkv'):
            weight = torch.cat([weights[f'{part}.{kind}'] for part in 'qkv'])
        if weight is not None and weight.shape == own.shape:
            own.copy_(weight)
            taken.append(name)
        elif first == 'conv':
            own.zero_()
    return taken


def left_over(old: TokenMixer, taken: Sequence[str]) -> list[str]:
    """Names of a mixer's weights that the new mixer has no place for.

    Args:
        old: The mixer that is replaced.
        taken: What :func:`start_from` returned.
    """

    def is_used(name: str) -> bool:
        first, _, kind = name.partition('.')
        parts = [f'{part}.{kind}' for part in 'qkv'] if first == 'qkv' else [f'qkv.{kind}'] if first in 'qkv' else []
        return name in taken or bool(parts) and all(part in taken for part in parts)

    return [name for name in old.state_dict() if not is_used(name)]


def _separate(weights: Mapping[str, Tensor], order: str) -> dict[str, Tensor]:
    """Weights with q, k and v apart, each with a bias; ``order`` names the three parts of ``qkv``."""
    separate: dict[str, Tensor] = {}
    for name, weight in weights.items():
        first, _, kind = name.partition('.')
        if first == 'qkv':
            separate |= {f'{part}.{kind}': rows for part, rows in zip(order, weight.chunk(3), strict=True)}
        else:
            separate[name] = weight
    for part in 'qkv':
        if f'{part}.weight' in separate:
            rows = separate[f'{part}.weight']
            separate.setdefault(f'{part}.bias', rows.new_zeros(len(rows)))
    return separate
