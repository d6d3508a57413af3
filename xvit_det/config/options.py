"""``--cfg-options key.path=value``, refusing keys that nothing reads.

OpenMMLab merges any key into the config, so the typo ``optim_wraper.optimizer.lr=1e-5`` would train for days at the old
learning rate.
"""

import inspect
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import Registry, root
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from xvit_det.errors import InputError, suggest
from xvit_det.signatures import constructor_arguments

FREE_DICTS = {'paramwise_cfg', 'metainfo', 'data_prefix', 'default_hooks', 'env_cfg'}
# Top-level keys that mmengine's Runner and the commands read beside the Runner's arguments.
TOP_LEVEL = {
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'paper',
    'published',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """``['key.path=value', ...]`` as a dict, values parsed as mmengine does (numbers, lists, tuples, strings)."""
    parser = ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction)
    options: dict[str, Any] = {}
    for pair in pairs:
        try:
            options |= parser.parse_args(['--options', pair]).options
        except AssertionError:
            raise InputError(
                f'--cfg-options: the brackets in {pair!r} do not match; a tuple is written as KEY="(a,b)"'
            ) from None
    return options


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Set ``options`` ({dotted key: value}) in ``cfg``.

    Raises:
        InputError: An unknown key, by the rule in the help of ``--cfg-options``, or two options for one place.
    """
    for path in options:
        keys = path.split('.')
        parents = ('.'.join(keys[:i]) for i in range(1, len(keys)))
        if whole := next((parent for parent in parents if parent in options), None):
            raise InputError(f'--cfg-options: {whole}={options[whole]!r} leaves no place for {path}; give one of them')
        _check_path(cfg, keys, options)
        _check_read_later(keys[0])
        if isinstance(options[path], list) and isinstance(value_at(cfg, keys), tuple):
            options[path] = tuple(options[path])  # as mmcv's steps want, and shells do not like brackets
    cfg.merge_from_dict(options)


def check_names(cfg: Config) -> None:
    """Check the top level of a config for names that are nearly those that are read: nothing would read them.

    Raises:
        InputError: There is one. Variables of other names are the user's own.
    """
    known = top_level_keys()
    for name in cfg:
        # Variables with the steps of a pipeline resemble tta_pipeline.
        if name not in known and not name.endswith('pipeline') and (close := get_close_matches(name, known, 1, 0.88)):
            raise InputError(
                f'config {cfg.filename}: nothing reads {name}; did you mean {close[0]}? (A variable of your own needs '
                'another name.)'
            )


def value_at(cfg: Config, keys: Sequence[str]) -> Any:
    """The value at a path into a config; ``None`` where there is none."""
    node: Any = cfg
    for key in keys:
        if isinstance(node, list | tuple):
            node = node[int(key)]
        else:
            node = node.get(key) if isinstance(node, dict | Config) else None
    return node


def _check_read_later(key: str) -> None:
    if key not in top_level_keys():
        raise InputError(
            f'--cfg-options: {key} is a variable of the config file, whose value is already inserted where it is used, '
            f'so setting it changes nothing; set the keys that use it{" or --data-root" if key == "data_root" else ""}'
        )


def top_level_keys() -> set[str]:
    """What a config may have at its top: the Runner's arguments, and what it and the commands read beside them."""
    return {*inspect.signature(Runner.__init__).parameters, *TOP_LEVEL} - {'self', 'cfg'}


def _check_path(cfg: Config, keys: list[str], options: dict[str, Any]) -> None:
    node: Any = cfg
    for i, key in enumerate(keys):
        where = '.'.join(keys[:i])
        if options.get(f'{where}._delete_') or (keys[i - 1] in FREE_DICTS and i) or key == '_delete_':
            return
        if isinstance(node, (list, tuple)):
            if not key.isdigit() or int(key) >= len(node):
                raise InputError(f'--cfg-options: {where} is a list of {len(node)}, so {key!r} is not an index')
            node = node[int(key)]
            continue
        if not isinstance(node, dict | Config):
            raise InputError(f'--cfg-options: {where} is {node!r}, so it has no key {key!r}')
        if key not in node:
            _check_new_key(cfg, {**node, 'type': options.get(f'{where}.type', node.get('type'))}, where, key)
            return
        if node[key] is None and i + 1 < len(keys):
            node[key] = ConfigDict()  # merging needs a dict here
            return
        node = node[key]


def _check_new_key(cfg: Config, node: dict, where: str, key: str) -> None:
    known = _known_arguments(cfg, node, where)
    if known is None or key in known:
        return
    names = sorted({*node, *known} - {'self', 'type'})
    raise InputError(f'--cfg-options: there is no {key!r} in {where or "the config"}; {suggest(key, names)}')


def _known_arguments(cfg: Config, node: dict, where: str) -> Iterable[str] | None:
    """Names that may be added to ``node``, the dict at path ``where``; ``None`` if any may be."""
    if not where:
        return top_level_keys()
    if where.endswith('_dataloader'):
        return inspect.signature(DataLoader.__init__).parameters
    if where == 'train_cfg':
        return {'by_epoch', *inspect.signature(EpochBasedTrainLoop.__init__).parameters}
    if node['type']:
        return constructor_arguments(find_class(node['type'], cfg.get('default_scope')))
    return ()


def find_class(name: Any, scope: str | None) -> Any:
    """The class or function that a config names in ``type=``, from whichever registry has it, or ``None``."""
    if not isinstance(name, str):
        return name if callable(name) else None
    if scope:
        import_module(f'{scope}.registry')  # creates the child registries
    for registry in vars(root).values():
        if isinstance(registry, Registry) and (found := registry.children.get(scope, registry).get(name)):
            return found
    return None
