"""Loading weights: checking that they fit, resampling what belongs to another image size, reporting what matched."""

import logging
import re
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xvit_det.backbones.module import print_log
from xvit_det.errors import InputError
from xvit_det.layers import XCiTClassBlock
from xvit_det.weights.files import read_state_dict
from xvit_det.weights.translate import BACKBONE, OPTIONAL, ROOTS, Source, translate

# A buffer that only a fused backbone has: in a checkpoint it marks the weights as fused.
FUSED = 'fused'


def check_fused(module: nn.Module, weights: Iterable[str], prefix: str = '') -> None:
    """Make sure that a fused model gets a fused model's weights, and an unfused one unfused weights, which
    have the same names.

    Args:
        module: The model to load into.
        weights: Names of the weights.
        prefix: What precedes the module's own names in them.

    Raises:
        InputError: One is fused and the other is not.
    """
    names = [name for name in weights if name.startswith(prefix)]
    is_fused, kind = FUSED in dict(module.named_buffers(recurse=False)), type(module).__name__
    if is_fused and names and prefix + FUSED not in names:
        raise InputError(f'this {kind} is fused and the weights are not: load them before fuse()')
    if not is_fused and prefix + FUSED in names:
        raise InputError(
            f'the weights are those of a fused {kind}: take those from before fuse(), or call eval() and fuse() before '
            'loading them'
        )


def load_pretrained(module: nn.Module, checkpoint: str | Path, prefix: str | None = None) -> dict[str, list[str]]:
    """Load weights into ``module`` and log how many matched, were missing, and were unexpected, and what was resampled.

    Args:
        module: What to load into, such as a backbone. Its attribute ``new_in_detection`` holds name prefixes of weights
            that a classification checkpoint is not expected to have.
        checkpoint: See :func:`xvit_det.weights.files.read_state_dict`. Another project's names are translated, see
            :func:`xvit_det.weights.translate.translate`.
        prefix: What precedes the module's own names in the checkpoint. ``None``, and for another project's file:
            selected automatically from ``''``, ``'backbone.'``, ``'module.'`` and ``'module.backbone.'`` by the number
            of matching names.

    Returns:
        Names under ``matched``, ``missing`` (in the module only) and ``unexpected`` (in the checkpoint only).

    Raises:
        InputError: Nothing matches; or a tensor has another shape than the module's and is not a table over tokens,
            which is resampled; or another project's file is of another model.
    """
    weights, source = translate_for(module, read_state_dict(checkpoint))
    own = module.state_dict()
    if prefix and not prefix.endswith('.'):
        prefix += '.'
    if source:
        prefix = None  # of the file's own names, which are translated
    if prefix is None:
        prefix = max(ROOTS, key=lambda p: sum(p + name in weights for name in own))
    found = {name[len(prefix) :]: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    report = {
        'matched': [name for name in own if name in found],
        'missing': [name for name in own if name not in found],
        'unexpected': [name for name in found if name not in own],
    }
    kind = type(module).__name__
    if source:
        assumed = f'; assumed: {source.assumed}' if source.assumed else ''
        print_log(f'{kind}: {checkpoint} is {source}: its names are translated{assumed}', logger='current')
    if not report['matched']:
        raise InputError(
            f'checkpoint {checkpoint} has no weight of {kind} under the prefix {prefix!r}: it has names like '
            f'{", ".join(list(weights)[:3])}, {kind} has names like {", ".join(list(own)[:3])}'
        )
    check_fused(module, found)
    resampled = resample_tables(module, found)
    for name in report['matched']:
        if found[name].shape != own[name].shape:
            raise InputError(
                f'checkpoint {checkpoint} is of another architecture or image size than this {kind}: {prefix}{name} '
                f'has shape {tuple(found[name].shape)}, the model needs {tuple(own[name].shape)}'
            )
    module.load_state_dict({name: found[name] for name in report['matched']}, strict=False)
    _log_report(kind, str(checkpoint), report, getattr(module, 'new_in_detection', ()))
    log_resampled(kind, resampled)
    return report


def unwrap(model: nn.Module) -> nn.Module:
    """The model in wrappers that keep it in ``module``: DDP, test-time augmentation."""
    while hasattr(model, 'module'):
        model = model.get_submodule('module')
    return model


def translate_for(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Source | None]:
    """Translate another project's names for a model of ours; any other model, such as that project's, keeps them.

    Args:
        model: What is loaded into.
        weights: Those of a file.

    Returns:
        As :func:`xvit_det.weights.translate.translate`.

    Raises:
        InputError: They are of another model.
    """
    if not any(hasattr(module, 'new_in_detection') for module in model.modules()):
        return weights, None
    translated, source = translate(weights)
    if source:
        check_source(unwrap(model), translated, source)
    return translated, source


def check_source(model: nn.Module, weights: Mapping[str, Tensor], source: Source) -> None:
    """Make sure that another project's weights are of the very model that they are loaded into.

    Loading in part would be a start that is worth little, and easily taken for the whole. Weights that only some uses
    of a backbone have, such as a pyramid's, may be missing or left over.

    Args:
        model: A backbone of ours, or a model with one as ``backbone``.
        weights: Translated weights, with the names of a whole model.
        source: What they are.

    Raises:
        InputError: They are of another model.
    """
    backbone: Any = getattr(model, 'backbone', model)
    check_fused(backbone, weights)
    own = {name for name in backbone.state_dict() if not name.startswith(OPTIONAL)}
    given = {name.removeprefix(BACKBONE) for name in weights if name.startswith(BACKBONE)}
    given = {name for name in given if not name.startswith(OPTIONAL)}
    kind, depth = type(backbone).__name__, getattr(backbone, 'depth', source.depth)
    if depth == source.depth:  # blocks after the last output are not built
        built = getattr(backbone, 'num_blocks', depth)
        given = {name for name in given if not (i := re.match(r'blocks\.(\d+)', name)) or int(i[1]) < built}
    elif own & given:
        raise InputError(f'the weights are {source}, with {source.depth} blocks, and this {kind} has {depth}')
    for names, what in ((given - own, 'has no place for'), (own - given, 'also needs')):
        if names:
            more = f' and {len(names) - 1} more' if len(names) > 1 else ''
            raise InputError(
                f'the weights are {source}, and this {kind} {what} {min(names)}{more}: it is another model, unless the '
                'file is incomplete; `xvit-det convert` says which config fits and can change the mixer'
            )
    class_blocks = getattr(backbone, 'class_blocks', ())
    theirs = any(name.startswith(f'{BACKBONE}class_blocks.') for name in weights)
    if theirs and class_blocks and not isinstance(class_blocks[0], XCiTClassBlock):
        raise InputError(
            f"the weights are {source}, and this {kind} has X-ViT's class attention, which computes something else "
            "from weights of the same names: set class_block='xcit' in its arch"
        )


def translate_backbone(backbone: nn.Module, state_dict: MutableMapping[str, Tensor], prefix: str) -> None:
    """Translate another project's names of a backbone, in ``state_dict``, whichever way it is loaded.

    Args:
        backbone: What is loaded into.
        state_dict: The weights; changed in place.
        prefix: What precedes the backbone's names in it.

    Raises:
        InputError: They are of another model.
    """
    theirs = {name.removeprefix(prefix): weight for name, weight in state_dict.items() if name.startswith(prefix)}
    ours, source = translate(theirs)
    if source is None:
        return
    check_source(backbone, ours, source)
    for name in theirs:
        del state_dict[prefix + name]
    state_dict.update({prefix + name.removeprefix(BACKBONE): weight for name, weight in ours.items()})
    print_log(f'{type(backbone).__name__}: the names of {source} are translated', logger='current')


@torch.no_grad()
def resample_tables(model: nn.Module, state_dict: MutableMapping[str, Tensor], prefix: str = '') -> list[str]:
    """Resample, in ``state_dict``, the weights that are made for another grid of tokens than the model's.

    These are position tables and Linformer's projections: a module with such weights has a method
    ``adapt_weight(name, weight)``. Weights that cannot be resampled are left as they are, for the caller to report.

    Args:
        model: The model to load into.
        state_dict: The weights; changed in place.
        prefix: What precedes the model's own names in it.

    Returns:
        One entry for each resampled weight: its name, old and new shape.
    """
    resampled = []
    for path, module in model.named_modules(prefix=prefix.rstrip('.')):
        if not hasattr(module, 'adapt_weight'):
            continue
        for parameter, own in module.named_parameters(recurse=False):
            name = f'{path}.{parameter}' if path else parameter
            weight = state_dict.get(name)
            if weight is None or weight.shape == own.shape:
                continue
            fitted = module.adapt_weight(parameter, weight)
            if fitted is not None and fitted.shape == own.shape:
                state_dict[name] = fitted
                resampled.append(f'{name} {tuple(weight.shape)} to {tuple(fitted.shape)}')
    return resampled


def log_resampled(kind: str, resampled: list[str]) -> None:
    """Log what :func:`resample_tables` did for a model of class ``kind``, in one line, if it did anything."""
    if resampled:
        print_log(
            f'{kind}: resampled to the grid of img_size, rows of unused tokens dropped: {", ".join(resampled)}',
            logger='current',
        )


def _log_report(kind: str, checkpoint: str, report: dict[str, list[str]], expected: tuple[str, ...]) -> None:
    counts = ', '.join(f'{len(names)} {what}' for what, names in report.items())
    print_log(f'{kind}: loaded {checkpoint}: {counts}', logger='current')
    surprising = [name for name in report['missing'] if not name.startswith(expected or ('\0',))]
    number = len(report['missing']) - len(surprising)
    if number:
        print_log(
            f'{kind}: {number} of the missing weights belong to {", ".join(p.rstrip(".") for p in expected)}, which '
            'classification weights do not have: as expected, they are trained from scratch',
            logger='current',
        )
    if surprising:
        print_log(
            f'{kind}: missing, trained from scratch: {", ".join(surprising)}', logger='current', level=logging.WARNING
        )
    if report['unexpected']:
        print_log(f'{kind}: unexpected, not used: {", ".join(report["unexpected"])}', logger='current')
