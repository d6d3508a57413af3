"""Names in configs: of classes, and of the arguments that a class takes."""

import inspect
from collections.abc import Mapping
from typing import Any


def type_name(cfg: Mapping[str, Any]) -> str:
    """The name of the class that a config's ``type`` stands for, without its scope or module."""
    return getattr(cfg['type'], '__name__', str(cfg['type']).rpartition('.')[2])


def constructor_arguments(cls: Any) -> set[str] | None:
    """Names of the arguments of a class or function, where ``**kwargs`` stands for those of the base classes.

    ``None`` if it takes any name, and for ``cls=None``, a class that was not found.
    """
    if cls is None:
        return None
    names: set[str] = set()
    functions = [vars(k)['__init__'] for k in cls.__mro__ if '__init__' in vars(k)] if inspect.isclass(cls) else [cls]
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return names - {'self'}
    return None
