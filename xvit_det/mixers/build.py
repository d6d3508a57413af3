"""Token mixers by name, and those of a model."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from xvit_det.errors import InputError, suggest
from xvit_det.mixers.base import TokenMixer


def build_mixer(mixer: str | Mapping[str, Any], mixers: Mapping[str, type[TokenMixer]], **context: Any) -> TokenMixer:
    """Build a mixer from a name, or from a dict of its name under ``type`` and its options.

    Args:
        mixer: Such as ``'nystrom'`` or ``dict(type='nystrom', landmarks=32)``.
        mixers: The choices.
        **context: What the backbone provides, such as ``embed_dims``, ``num_heads`` and ``grid``. A mixer gets the
            arguments that its constructor names; options take precedence.

    Raises:
        InputError: An unknown name or option, or a rotary position for a mixer without support; the message lists the
            choices.
    """
    options = dict(mixer) if isinstance(mixer, Mapping) else {'type': mixer}
    name = options.pop('type', None)
    if not isinstance(name, str) or name not in mixers:
        raise InputError(f'mixer {name!r} is not one of {", ".join(mixers)}')
    known = inspect.signature(mixers[name]).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        choices = [key for key in known if key not in context]
        raise InputError(f'mixer {name} has no option {", ".join(unknown)}; {suggest(unknown[0], choices)}')
    if context.get('rotary') is not None and 'rotary' not in known:
        able = ', '.join(key for key, cls in mixers.items() if 'rotary' in inspect.signature(cls).parameters)
        raise InputError(f'mixer {name} does not support rotary positions; these do: {able}')
    return mixers[name](**{key: value for key, value in context.items() if key in known} | options)


def inherited_options(given: Any, cls: type[TokenMixer] | None) -> dict[str, Any]:
    """The options of a config's mixer that another class of mixer has, too, such as ``qkv_bias``.

    Args:
        given: The config's mixer: a name or a dict.
        cls: The other class; ``None``: an unknown one, which has none.
    """
    known = inspect.signature(cls).parameters if cls else {}
    options = given if isinstance(given, Mapping) else {}
    return {key: value for key, value in options.items() if key in known}


def token_mixers(model: nn.Module) -> dict[str, TokenMixer]:
    """All token mixers of a model, by their names in it."""
    return {name: module for name, module in model.named_modules() if isinstance(module, TokenMixer)}
