"""What each token mixer does at one point of an image: which tokens its output depends on, and by which weights."""

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xvit_det.analysis.features import view
from xvit_det.analysis.influence import jacobian_norms
from xvit_det.backbones.base import find_backbone
from xvit_det.errors import InputError
from xvit_det.layers.class_attention import ClassAttention
from xvit_det.mixers import MIXERS, TokenMixer, token_mixers

if TYPE_CHECKING:
    from xvit_det.inference import Predictor


class TokenMap(NamedTuple):
    """A number for each token of a map.

    Args:
        block: Name of the block in the backbone, such as ``'blocks.0'``.
        what: ``'influence'``, ``'weights'`` (the mean over the heads), ``'head 0'``, …, or ``'class token'``.
        values: (h, w).
        at_point: Row and column of the chosen point; ``None`` for the class token's.
    """

    block: str
    what: str
    values: np.ndarray
    at_point: tuple[int, int] | None


def mixer_influence(
    mixer: TokenMixer,
    x: Tensor,
    index: int,
    valid: Tensor | None = None,
    size: tuple[int, int] | None = None,
    projections: int = 16,
) -> Tensor:
    """How much a mixer's output at one token depends on each token: ``‖∂ mixer(x)_i / ∂ x_j‖`` for every j.

    It holds for every mixer, and counts all ways: values, keys, queries, norms.

    Args:
        mixer: In evaluation mode.
        x, valid, size: Its input, see :class:`xvit_det.mixers.TokenMixer`; a batch of one.
        index: The token i.
        projections: See :func:`xvit_det.analysis.influence.jacobian_norms`, which estimates it.

    Returns:
        (N,).
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        output = mixer(x, valid=valid, size=size)
    return jacobian_norms(output[0, index], x, dim=2, projections=projections)[0]


@torch.no_grad()
def mixer_weights(
    mixer: TokenMixer, x: Tensor, index: int, valid: Tensor | None = None, size: tuple[int, int] | None = None
) -> Tensor:
    """The weights with which a mixer sums the values of all tokens at one token, in each head.

    The weights of softmax attention are positive and sum to one. Those of XNorm attention are ``q_i · k_j`` with a
    query of unit length and can be negative, see :func:`xvit_det.mixers.xnorm.xnorm_weights`.

    Args: as :func:`mixer_influence`.

    Returns:
        (H, N).

    Raises:
        InputError: The mixer is no weighted sum over tokens, or has no code that gives its weights.
    """
    if not hasattr(mixer, 'attention_map'):
        able = ', '.join(name for name, cls in MIXERS.items() if hasattr(cls, 'attention_map'))
        raise InputError(f'{type(mixer).__name__} has no weights that can be shown; these mixers have: {able}')
    weights: Any = mixer.attention_map
    return weights(x, valid, size, queries=slice(index, index + 1))[0, :, 0]  # (1, H, 1, N) -> (H, N)


def token_maps(
    predictor: 'Predictor', image: Any, point: tuple[float, float] | None = None, block: int | None = None
) -> list[TokenMap]:
    """Influence and weights of each block's mixer at a point of an image, and the weights of a class token.

    Args:
        predictor: From :func:`xvit_det.load`, not fused.
        image: As :meth:`xvit_det.inference.Predictor.predict` takes it.
        point: x, y in pixels of the image; ``None``: its middle.
        block: Only this block, counted from 0, with the weights of each head.

    Returns:
        Block by block the influence and, where the mixer has them, weights; then those of the class attention blocks.

    Raises:
        InputError: The image cannot be read, the point is outside, there is no such block, or the model has no backbone
            of this package or one that is fused.
    """
    _, backbone = find_backbone(predictor.model)
    mixers = token_mixers(backbone)
    if block is not None and not 0 <= block < len(mixers):
        raise InputError(f'block {block} is not one of 0 to {len(mixers) - 1}')
    seen = view(predictor, image)
    point = seen.middle if point is None else point
    seen.check_point(point)
    chosen: dict[str, nn.Module] = dict(list(mixers.items())[slice(block, None if block is None else block + 1)])
    if block is None:
        chosen |= {name: part for name, part in backbone.named_modules() if isinstance(part, ClassAttention)}
    maps: list[TokenMap] = []
    for name, (part, call) in _record_inputs(chosen, predictor, seen.batch['inputs']).items():
        owner = name.rpartition('.')[0]
        if isinstance(part, TokenMixer):
            maps += _mixer_maps(owner, part, call, seen.token_at(point, call['size']), heads=block is not None)
        else:
            weights = part.attention_map(**call)[0, :, 0].mean(dim=0)  # (1, H, 1, 1 + N) -> (1 + N,)
            maps.append(TokenMap(owner, 'class token', _grid(weights, maps[-1].values.shape), None))
    return maps


def _mixer_maps(
    block: str, mixer: TokenMixer, call: dict[str, Any], place: tuple[int, int], heads: bool
) -> list[TokenMap]:
    """Influence and weights of a mixer, which got the arguments ``call``, at the token in row and column ``place``."""
    x, size = call['x'], call['size']
    index = x.shape[1] - size[0] * size[1] + place[0] * size[1] + place[1]  # after the prefix tokens
    found = dict(influence=mixer_influence(mixer, index=index, **call))
    if hasattr(mixer, 'attention_map'):
        weights = mixer_weights(mixer, index=index, **call)
        found['weights'] = weights.mean(dim=0)
        if heads:
            found |= {f'head {i}': head for i, head in enumerate(weights)}
    return [TokenMap(block, what, _grid(values, size), place) for what, values in found.items()]


def _grid(values: Tensor, size: tuple[int, ...]) -> np.ndarray:
    """Numbers (N,) of all tokens, those of the prefix first -> (h, w)."""
    return values[-size[0] * size[1] :].unflatten(0, size).detach().cpu().numpy()


@torch.no_grad()
def _record_inputs(
    parts: dict[str, nn.Module], predictor: 'Predictor', inputs: Tensor
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Parts of a backbone, by name, each with the arguments that it gets for an image, in the order of the calls."""
    calls: dict[str, tuple[Any, dict[str, Any]]] = {}

    def record(name: str, part: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        calls[name] = part, dict(inspect.signature(part.forward).bind(*args, **kwargs).arguments)

    hooks = [
        part.register_forward_pre_hook(
            lambda part, args, kwargs, name=name: record(name, part, args, kwargs), with_kwargs=True
        )
        for name, part in parts.items()
    ]
    try:
        predictor.model.extract_feat(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
