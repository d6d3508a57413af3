"""Loading weights: reading them safely, resampling what belongs to another image size, reporting what matched."""

import logging
import pickle
from collections.abc import Iterable, MutableMapping
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from xvit_det.errors import InputError

# Tried when no prefix is given: bare weights, a detector or classifier, the same wrapped for DDP.
_PREFIXES = ('', 'backbone.', 'module.', 'module.backbone.')
# A buffer that only a fused backbone has: in a checkpoint it marks the weights as fused.
FUSED = 'fused'


def read_state_dict(checkpoint: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint without running code from it (``weights_only=True``).

    Args:
        checkpoint: A file or an http(s) address. Weights may be at the top level or under ``state_dict`` or ``model``.

    Raises:
        InputError: The file does not exist, is not a checkpoint, or holds no weights.
    """
    checkpoint = str(checkpoint)
    try:
        if checkpoint.startswith(('http://', 'https://')):
            content = torch.hub.load_state_dict_from_url(checkpoint, map_location='cpu', weights_only=True)
        else:
            content = torch.load(checkpoint, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise InputError(f'checkpoint {checkpoint} does not exist') from None
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f'checkpoint {checkpoint} cannot be read as PyTorch weights: {reason}') from error
    for key in ('state_dict', 'model'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    weights = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not weights:
        raise InputError(
            f'checkpoint {checkpoint} holds no weights: no tensors at its top level, in state_dict or model'
        )
    return weights


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
        raise InputError(f'the weights are those of a fused {kind}: call eval() and fuse() before loading them')


def load_pretrained(module: nn.Module, checkpoint: str | Path, prefix: str | None = None) -> dict[str, list[str]]:
    """Load weights into ``module`` and log how many matched, were missing, and were unexpected, and what was resampled.

    Args:
        module: What to load into, such as a backbone. Its attribute ``new_in_detection`` holds name prefixes of weights
            that a classification checkpoint is not expected to have.
        checkpoint: See :func:`read_state_dict`.
        prefix: What precedes the module's own names in the checkpoint. ``None``: selected automatically from ``''``,
            ``'backbone.'``, ``'module.'`` and ``'module.backbone.'`` by the number of matching names.

    Returns:
        Names under ``matched``, ``missing`` (in the module only) and ``unexpected`` (in the checkpoint only).

    Raises:
        InputError: Nothing matches, or a tensor has another shape than the module's and is not a table over tokens,
            which is resampled.
    """
    weights = read_state_dict(checkpoint)
    own = module.state_dict()
    if prefix and not prefix.endswith('.'):
        prefix += '.'
    if prefix is None:
        prefix = max(_PREFIXES, key=lambda p: sum(p + name in weights for name in own))
    found = {name[len(prefix) :]: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    report = {
        'matched': [name for name in own if name in found],
        'missing': [name for name in own if name not in found],
        'unexpected': [name for name in found if name not in own],
    }
    kind = type(module).__name__
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
