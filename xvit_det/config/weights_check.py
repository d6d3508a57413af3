"""Compare a checkpoint with the model before it is loaded, without running code that it may contain."""

from collections import Counter
from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor, nn

from xvit_det.backbones import Backbone
from xvit_det.backbones.pretrained import check_fused, resample_tables, translate_for, unwrap
from xvit_det.errors import InputError
from xvit_det.weights.files import read_state_dict


def check_checkpoint(model: nn.Module, path: str, complete: bool = True) -> None:
    """Compare a checkpoint's weights with a model's: mmengine would load what fits and silently go on without the rest.

    Args:
        model: The built model; wrappers that keep it in ``module`` (DDP, test-time augmentation) are looked through.
        path: File or http(s) address of the checkpoint.
        complete: Whether it must have all of the model's weights, as for testing and resuming. Otherwise half of those
            of one part are enough, such as the backbone, as for fine-tuning on another task.

    Raises:
        InputError: The file is missing or unreadable, fused, not finite, or of another architecture.
    """
    fitting_weights(model, read_state_dict(path), path, complete)


def fitting_weights(
    model: nn.Module, weights: Mapping[str, Tensor], path: str, complete: bool = True
) -> dict[str, Tensor]:
    """The weights of a checkpoint as the model takes them: with our names, tables resampled to its grid.

    Args:
        model: As for :func:`check_checkpoint`.
        weights: Those of the checkpoint.
        path: Where they are from, for messages.
        complete: As for :func:`check_checkpoint`.

    Raises:
        InputError: They are of another architecture, or fused.
    """
    model = unwrap(model)
    translated, source = translate_for(model, weights)
    if source:
        print_log(f'Checkpoint {path} is {source}: its names are translated.', logger='current')
    fitted = {name.removeprefix('module.'): tensor for name, tensor in translated.items()}
    for name, module in model.named_modules():
        if isinstance(module, Backbone):
            check_fused(module, fitted, f'{name}.' if name else '')
    resample_tables(model, fitted)  # as loading them will do
    given = {name: tensor.shape for name, tensor in fitted.items()}
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    reshaped = [name for name in own if name in given and own[name] != given[name]]
    matched = len(own) - len(missing) - len(reshaped)
    counts = f'{matched} of {len(own)} weights matched, {len(missing)} missing, {len(unexpected)} unexpected'
    if reshaped:
        counts += f', {len(reshaped)} of another shape'
    if not matched or (complete and (missing or reshaped)):
        examples = [f'{name}: {tuple(given[name])} instead of {tuple(own[name])}' for name in reshaped[:1]]
        examples += [f'missing {name}' for name in missing[:1]] + [f'unexpected {name}' for name in unexpected[:1]]
        raise InputError(
            f'checkpoint {path} is of another architecture than the config: {counts} ({"; ".join(examples)})'
        )
    parts = Counter(map(_part, own))
    fitting = Counter(_part(name) for name in own if given.get(name) == own[name])
    if all(2 * fitting[part] < size for part, size in parts.items()):
        by_part = ', '.join(f'{fitting[part]} of {size} of {part}' for part, size in parts.items())
        raise InputError(
            f'checkpoint {path} has less than half of the weights of each part of the model ({by_part}): {counts}; to '
            f'start from so few, give it as model.init_cfg=dict(type="Pretrained", checkpoint={path!r}) instead of '
            'load_from'
        )
    print_log(f'Checkpoint {path}: {counts}.', logger='current')
    return fitted


def _part(name: str) -> str:
    """The part of a model that a weight is in, such as its backbone."""
    return name.partition('.')[0]
