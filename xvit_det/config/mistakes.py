"""Mistakes in a config that come up while it is read, built or run, each as one sentence."""

import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb, format_exception, walk_tb
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root

from xvit_det.config.options import find_class, top_level_keys
from xvit_det.errors import InputError, RunError, suggest
from xvit_det.signatures import constructor_arguments


@contextmanager
def told_reading(path: Path) -> Iterator[None]:
    """Around running a config file: whatever it raises becomes one sentence with the file and the line.

    Raises:
        InputError: The file, or one that it inherits, cannot be read or run.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, OSError | ImportError) else _reason(error)
        raise InputError(f'config {_line(error, path)} cannot be used: {reason}') from error


def _line(error: Exception, path: Path) -> str:
    """The config file, it or one of its bases, and the line where it failed."""
    file, place = str(path.absolute()), str(path)
    for frame, number in walk_tb(error.__traceback__):
        if frame.f_code.co_name == '_file2dict':  # MMEngine's, once for each file
            file = place = str(frame.f_locals['filename'])
        elif frame.f_code.co_filename == file:
            place = f'{file}, line {number},'
    return f'{file}, line {error.lineno},' if isinstance(error, SyntaxError) and error.lineno else place


@contextmanager
def told_building(cfg: Config) -> Iterator[None]:
    """Around building what a config describes: its mistakes become one sentence.

    Raises:
        InputError: The config names a class that is not registered, gives a class an argument that it does not have, or
            a value that it refuses.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        node = _node(error)
        if node is None:
            raise
        raise InputError(f'config {cfg.filename}: {_place(cfg, node)}{_building(error, node, cfg)}') from error


def _node(error: Exception) -> Mapping[str, Any] | None:
    """The part of the config that MMEngine was building, the innermost."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name == 'build_from_cfg']
    nodes = [frame.f_locals['cfg'] for frame in frames]
    return next((node for node in reversed(nodes) if isinstance(node, Mapping)), None)


def _place(cfg: Config, node: Mapping[str, Any]) -> str:
    """Where a part stands in the config, such as ``'train_dataloader.dataset: '``; nothing if it was changed since."""
    sections = {key: value for key, value in cfg.items() if key in top_level_keys()}
    return next((f'{path}: ' for path, part in parts(sections) if dict(part) == dict(node)), '')


def parts(node: Any, where: str = '') -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """All dicts in a config with their paths."""
    if isinstance(node, MutableMapping):
        if where:
            yield where, node
        children: Any = node.items()
    else:
        children = enumerate(node) if isinstance(node, list | tuple) else ()
    for key, child in children:
        yield from parts(child, f'{where}.{key}' if where else key)


def _building(error: Exception, node: Mapping[str, Any], cfg: Config) -> str:
    name, message = node.get('type'), str(error.args[0]) if error.args else ''
    scope = cfg.get('default_scope')
    if unknown := re.match(r'(\S+) is not in the \S+?::(.+?) registry', message):
        return f'there is no {unknown[2]} {unknown[1]!r}; {suggest(unknown[1], _registered(unknown[2], scope))}'
    if extra := re.search(r"unexpected keyword argument '(\w+)'", message):
        if cfg.model.get('pretrained'):  # which mmseg hands to the backbone
            return f'model.pretrained={cfg.model.pretrained!r} is not for this backbone: set it to None'
        known = constructor_arguments(find_class(name, scope))
        choices = f'; {suggest(extra[1], sorted(known))}' if known else ''
        return (
            f'{message.splitlines()[0]}{choices}; if it is left over from the base config, as depth and pretrained of '
            'a ResNet, add _delete_=True to the dict that replaces it'
        )
    return f'{getattr(name, "__name__", name)} cannot be built: {_reason(error)}'


def _registered(kind: str, scope: str | None) -> list[str]:
    """The names of all classes of a kind, such as ``'transform'``, that a config with this scope may use."""
    registries = [registry for registry in vars(root).values() if isinstance(registry, Registry)]
    names: set[str] = set()
    for registry in registries:
        if registry.name == kind:
            names |= {*registry.module_dict, *registry.children.get(scope, registry).module_dict}
    return sorted(names)


@contextmanager
def told_failures(cfg: Config) -> Iterator[None]:
    """Around training or testing: what a library raises becomes one sentence, and a file in the work folder has
    the traceback.

    Raises:
        InputError: As :func:`told_building`.
        RunError: Anything else failed, such as a step of a pipeline by a value that nothing has looked at before.
    """
    try:
        with told_building(cfg):
            yield
    except InputError:
        raise
    except Exception as error:
        where = extract_tb(error.__traceback__)[-1]
        place = f'{"/".join(Path(where.filename).parts[-3:])}, line {where.lineno}'
        if found := re.findall(r'File "(.+?)", line (\d+)', str(error)):  # in a worker process of a data loader
            place = f'{"/".join(Path(found[-1][0]).parts[-3:])}, line {found[-1][1]}'
        traceback = Path(cfg.work_dir, 'traceback.txt')
        traceback.parent.mkdir(parents=True, exist_ok=True)
        traceback.write_text(''.join(format_exception(error)))
        raise RunError(
            f'the run of config {cfg.filename} failed: {_reason(error)} ({place}; {traceback} has the traceback)'
        ) from error


def _reason(error: Exception) -> str:
    """An exception's type, and the last line of a worker's message or the first of any other."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if 'Original Traceback' in str(error):
        return lines[-1]
    line = error.msg if isinstance(error, SyntaxError) else lines[0]
    return f'{type(error).__name__}: {line}'
