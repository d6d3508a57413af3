"""From a checkpoint to a model that predicts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS
from torch import nn

from xvit_det.compat.quiet import without_log, without_remarks
from xvit_det.config.data_check import OTHER_CLASSES, class_names
from xvit_det.config.data_paths import dataset_configs
from xvit_det.config.load import load_config
from xvit_det.config.mistakes import told_building
from xvit_det.config.options import find_class
from xvit_det.config.weights_check import fitting_weights
from xvit_det.deploy import fuse as fuse_backbones
from xvit_det.errors import InputError
from xvit_det.hub import complete_model
from xvit_det.inference.predictor import Predictor
from xvit_det.weights.files import is_address, read_checkpoint, sound_weights


def load(
    checkpoint: str | Path,
    config: str | Path | None = None,
    *,
    device: str | None = None,
    fuse: bool = False,
    full_size: bool = False,
) -> Predictor:
    """A trained detector, classifier or segmentor, ready to predict.

    The checkpoint is read as data: no code in it is run. A config is Python code and is run, so take it from where you
    trust it, as with any script.

    Args:
        checkpoint: File or http(s) address, of any kind that training and testing take.
        config: Name of a shipped config, or a file; ``None``: the only ``.py`` file in the checkpoint's folder, where
            training leaves it.
        device: ``'cuda'``, ``'cuda:1'``, ``'cpu'``, …; ``None``: a GPU if there is one.
        fuse: Fold the backbone for speed; scores change in the last digits.
        full_size: Predict images at their own size, instead of the one to which the config resizes them.

    Raises:
        InputError: The config is not found or wrong; the checkpoint is of another model; there are more or fewer class
            names than classes; there is no such device.
    """
    target = _device(device)
    cfg = load_config(_config_beside(str(checkpoint)) if config is None else config)
    complete_model(cfg)
    content = read_checkpoint(checkpoint)
    weights = sound_weights(content, checkpoint)
    with without_log(), without_remarks(), told_building(cfg):
        model = MODELS.build({**cfg.model, '_scope_': cfg.get('default_scope')})
        model.load_state_dict(fitting_weights(model, weights, str(checkpoint)), strict=False)
    model.eval()  # which in mmdet's distillation models returns nothing
    classes = _classes(model, content, cfg)
    if fuse:
        fuse_backbones(model)
    with told_building(cfg):
        return Predictor(model.to(target), cfg, classes, full_size=full_size)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or get_device())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'device {name!r} cannot be used: {reason}') from None
    return device


def _config_beside(checkpoint: str) -> Path:
    """The only config in the folder of a checkpoint: mmengine's Runner writes it there.

    It also stands in the checkpoint itself. But it is code, and a checkpoint is read as data.
    """
    if is_address(checkpoint):
        raise InputError(f'{checkpoint} is an address: give its config, too')
    if not Path(checkpoint).is_file():
        raise InputError(f'checkpoint {checkpoint} does not exist')
    folder = Path(checkpoint).parent
    found = sorted(folder.glob('*.py'))
    if len(found) != 1:
        what = f'{len(found)} configs ({", ".join(path.name for path in found)})' if found else 'no config'
        raise InputError(f'there is {what} beside checkpoint {checkpoint}: name one with --config')
    return found[0]


def _classes(model: nn.Module, content: Any, cfg: Config) -> Sequence[str]:
    """The names of the classes: from the checkpoint, else from the config's dataset, else their numbers."""
    meta = content.get('meta') if isinstance(content, Mapping) else None
    meta = meta if isinstance(meta, Mapping) else {}
    info = meta.get('dataset_meta') or meta  # mmdet before version 3 has CLASSES in meta itself
    names = info.get('classes') or info.get('CLASSES')
    source = 'the checkpoint names'
    if not names or isinstance(names, str):
        source = "the config's dataset has"
        datasets = [dataset for split in ('test', 'val', 'train') for dataset in dataset_configs(cfg, split)]
        found = (class_names(data, find_class(data.get('type'), cfg.get('default_scope'))) for data in datasets)
        names = next(filter(None, found), None)
    heads = {
        path: module.num_classes
        for path, module in model.named_modules()
        if isinstance(getattr(module, 'num_classes', None), int)
        and not {*OTHER_CLASSES, 'data_preprocessor'} & {*path.split('.')}
    }
    if not names:
        return [f'class {i}' for i in range(max(heads.values(), default=0))]
    for path, number in heads.items():
        if number != len(names):
            shown = ', '.join(names[:5])
            raise InputError(f'{path} of the model has {number} classes, but {source} {len(names)} ({shown} …)')
    return tuple(names)
