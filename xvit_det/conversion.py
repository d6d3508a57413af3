"""From a file of weights, another project's or ours, to one that fits a config: what ``xvit-det convert`` does."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

import xvit_det
from xvit_det.backbones import Backbone
from xvit_det.backbones.pretrained import check_fused, check_source, resample_tables
from xvit_det.config.load import load_config
from xvit_det.errors import InputError
from xvit_det.hub import create_model, find_config
from xvit_det.mixers import MIXERS, inherited_options, left_over, start_from, token_mixers
from xvit_det.weights.families import FAMILIES
from xvit_det.weights.files import read_state_dict, sha256
from xvit_det.weights.translate import BACKBONE, OPTIONAL, Source, translate

KINDS_OF_NOTES = ('missing', 'anew', 'resampled', 'left over')


@dataclass
class Conversion:
    """What a file became.

    Attributes:
        source: What the file holds; ``None`` for weights of ours.
        config: Name or path of the config that the weights fit.
        mixer: The token mixer that is not the config's own, if there is one.
        options: What the config needs for it, as ``--cfg-options`` of other commands.
        weights: The weights, with the names and shapes of the config's model.
        size: Number of weights that the model has.
        notes: Name and reason, for all weights that are not simply the file's: ``missing`` from the file, ``anew`` in
            another mixer, ``resampled`` for the config's size of image, ``left over`` from the file.
    """

    source: Source | None
    config: str
    mixer: str | None
    options: tuple[str, ...]
    weights: dict[str, Tensor]
    size: int
    notes: dict[str, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS_OF_NOTES})

    def header(self, path: str | Path) -> dict[str, str]:
        """Where the weights are from: for the header of the file that they are written to."""
        entries = dict(
            config=Path(self.config).stem, source=Path(path).name, sha256=sha256(path), xvit_det=xvit_det.__version__
        )
        if self.mixer:
            entries['mixer'] = self.mixer
        if self.source:
            entries['model'] = str(self.source)
            if self.source.family.licence:
                entries['licence'] = f'{self.source.family.licence} (as its authors published it)'
        return entries


def convert(path: str | Path, config: str | None = None, mixer: str | None = None, trust: bool = False) -> Conversion:
    """Give the weights in a file the names and shapes of a config's model, and load them into it.

    Args:
        path: The file, see :func:`xvit_det.weights.files.read_state_dict`.
        config: Name or path of the config; ``None``: the one that fits best.
        mixer: Another token mixer than the config's. It starts from the weights of the file's mixer where they have a
            counterpart, see :func:`xvit_det.mixers.start_from`.
        trust: Read all that the file holds, which may run code from it.

    Raises:
        InputError: The file cannot be read; or it is of no known family, or of a size without a config, and no config
            is given; or the config is of another model; or there is no such mixer.
    """
    weights, source = translate(read_state_dict(path, trust))
    config = config or _find(path, weights, source)
    weights = dict(weights) if source else _with_backbone(weights)
    part = load_config(config).model.get('backbone')
    given = part.get('mixer') if isinstance(part, Mapping) else None
    override = given if mixer is None else _with_known_options(given, mixer)
    changes: dict[str, Any] = {} if mixer is None else dict(backbone=dict(mixer=override))
    model = create_model(config, **changes)
    backbone: Any = getattr(model, 'backbone', None)
    if not isinstance(backbone, Backbone):
        raise InputError(f'the model in {config} has no backbone of xvit_det')
    check_fused(backbone, weights, BACKBONE)
    old = source.family.mixer if source else given
    options = _as_options('model.backbone.mixer', override) if mixer else ()
    result = Conversion(source, str(config), mixer, options, weights, len(model.state_dict()))
    if _type(old) != _type(override) and (source or not _has_mixers(weights, backbone)):
        _change_mixer(result, backbone, _with_mixer(model, old))
    elif source:
        check_source(model, weights, source)
    for entry in resample_tables(model, weights):
        name, _, shapes = entry.partition(' ')
        result.notes['resampled'][name] = shapes
    _compare(result, path, model)
    model.load_state_dict(result.weights, strict=False)
    return result


def _with_backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model of ours with the names of a whole one, if they are those of its backbone or wrapped."""
    bare = {name.removeprefix('module.'): weight for name, weight in weights.items()}
    if any(name.startswith(BACKBONE) for name in bare):
        return bare
    return {BACKBONE + name: weight for name, weight in bare.items()}


def _find(path: str | Path, weights: Mapping[str, Tensor], source: Source | None) -> str:
    """The config that fits."""
    if source is None:
        raise InputError(
            f'{path} is of none of the families {", ".join(f.title for f in FAMILIES)}: it has names like '
            f'{", ".join(list(weights)[:3])}; if it is of a model of ours, give its config with --config'
        )
    try:
        return find_config(source.config or '').stem
    except InputError:
        raise InputError(f'{path} is {source}, for which there is no config; give yours with --config') from None


def _with_known_options(given: Any, mixer: str) -> str | dict[str, Any]:
    """Another mixer as an override of a config's, with those options of the config's own that it has, too."""
    options = inherited_options(given, MIXERS.get(mixer))
    dropped = isinstance(given, Mapping) and len(options) < len(given) - 1  # without its type
    if dropped:
        return dict(_delete_=True, type=mixer, **options) if options else mixer
    return dict(type=mixer) if options else mixer


def _as_options(key: str, value: Any) -> tuple[str, ...]:
    """A config's value as ``--cfg-options``."""
    if not isinstance(value, Mapping):
        return (f'{key}={value}',)
    return tuple(f'{key}.{name}={entry}' for name, entry in value.items())


def _type(mixer: Any) -> str | None:
    return mixer['type'] if isinstance(mixer, Mapping) else mixer


def _with_mixer(model: nn.Module, mixer: Any) -> nn.Module:
    """A model's backbone with another mixer; ``None``: the class's own."""
    config: Any = model.cfg
    settings = {**config.model.backbone, 'init_cfg': None, 'mixer': mixer}
    return MODELS.build({key: value for key, value in settings.items() if key != 'mixer' or value is not None})


def _change_mixer(result: Conversion, new: nn.Module, old: nn.Module) -> None:
    """Replace the weights of the mixers by those of ``new``, started from ``old`` with the file's weights."""
    weights, notes = result.weights, result.notes
    if result.source:
        check_source(old, weights, result.source)
    given = {name.removeprefix(BACKBONE): weight for name, weight in weights.items() if name.startswith(BACKBONE)}
    resample_tables(old, given)
    own = old.state_dict()
    fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
    old.load_state_dict(fitting, strict=False)
    for (path, theirs), ours in zip(token_mixers(old).items(), token_mixers(new).values(), strict=True):
        place = f'{BACKBONE}{path}.'
        fits = all(f'{path}.{name}' in fitting for name in theirs.state_dict())
        taken = start_from(ours, theirs) if fits else []
        misfit = (
            'of another width' if any(f'{path}.{name}' in given for name in theirs.state_dict()) else 'not in the file'
        )
        for name in left_over(theirs, taken):
            if place + name in weights:
                notes['left over'][place + name] = f'{type(ours).__name__} has none' if fits else misfit
        for name in theirs.state_dict():
            weights.pop(place + name, None)
        for name, weight in ours.state_dict().items():
            weights[place + name] = weight
            if name not in taken:
                notes['anew'][place + name] = f'{type(theirs).__name__} has none' if fits else misfit


def _has_mixers(weights: Mapping[str, Tensor], backbone: nn.Module) -> bool:
    """Whether the file's weights are those of the wanted mixers already."""
    own = {
        f'{BACKBONE}{path}.{n}': w
        for path, mixer in token_mixers(backbone).items()
        for n, w in mixer.state_dict().items()
    }
    return bool(own) and all(name in weights and weights[name].shape == weight.shape for name, weight in own.items())


def _compare(result: Conversion, path: str | Path, model: nn.Module) -> None:
    """Keep what fits the model, and note the rest.

    Raises:
        InputError: A weight of the backbone has another shape, or nothing fits.
    """
    given, own = result.weights, model.state_dict()
    for name, weight in own.items():
        if name not in given:
            if name.startswith(BACKBONE) and not name.removeprefix(BACKBONE).startswith(OPTIONAL):
                raise InputError(f'{path} is not of the model in {result.config}: it has no {name}')
            result.notes['missing'][name] = 'not in the file'
        elif given[name].shape != weight.shape:
            shapes = f'{tuple(given[name].shape)} in the file, {tuple(weight.shape)} in the model'
            if name.startswith(BACKBONE):
                raise InputError(f'{path} is not of the model in {result.config}: {name} has the shape {shapes}')
            result.notes['missing'][name] = shapes
            result.notes['left over'][name] = 'of another shape'
    result.notes['left over'] |= {name: 'not in this model' for name in given if name not in own}
    result.weights = {name: given[name] for name in own if name in given and name not in result.notes['missing']}
    if not result.weights:
        raise InputError(f'{path} has no weight of the model in {result.config}: it has names like {min(given)}')


def grouped(notes: Mapping[str, str]) -> dict[tuple[str, str], int]:
    """Count notes by part of the model, with ``#`` for the numbers of blocks, and what became of it.

    A layer is named without its ``weight`` and ``bias``, unless only its bias is concerned.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for name, what in notes.items():
        part, _, leaf = re.sub(r'\.\d+(?=\.)', '.#', name).rpartition('.')
        if not re.fullmatch(r'weight|bias|running_\w+|num_batches_tracked', leaf):
            part = f'{part}.{leaf}'.lstrip('.')
        found.setdefault((part, what), []).append(leaf)
    return {
        (f'{part}.bias' if set(leaves) == {'bias'} else part, what): len(leaves)
        for (part, what), leaves in found.items()
    }


def can_run(result: Conversion) -> bool:
    """Whether all weights that matter are the file's: none is missing, and no attention is initialised anew."""
    return not result.notes['missing'] and not any(
        re.search(r'\.(qkv|q|k|v|proj)\.weight$', name) for name in result.notes['anew']
    )
