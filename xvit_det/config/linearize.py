"""From the config of a trained model to what linearizing it needs: its data without labels, and the new config."""

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from xvit_det.config.data_paths import inference_pipeline
from xvit_det.errors import InputError

Mixer = str | Mapping[str, Any]


def backbone_config(cfg: Config, name: str) -> ConfigDict:
    """The part of the config that describes the submodule ``name`` of its model, such as ``'backbone'``.

    Raises:
        InputError: The config keeps it in a list.
    """
    part = cfg.model
    for key in name.split('.'):
        if key not in part:
            raise InputError(f'the backbone of {cfg.model.type} is not in a dict model.{name} of its config')
        part = part[key]
    return part


def check_new_mixer(part: ConfigDict, mixer: Mixer) -> None:
    """Raise an ``InputError`` if a backbone's config has this mixer already."""
    old = part.get('mixer', inspect.signature(MODELS.get(part.type)).parameters['mixer'].default)
    old, new = (dict(type=m) if isinstance(m, str) else dict(m) for m in (old, mixer))
    if old == new:
        raise InputError(f'--mixer: {_describe(mixer)} is the mixer that this model has already')


def with_mixer(part: ConfigDict, mixer: Mixer) -> dict[str, Any]:
    """The config of the same backbone with another mixer, without regard to how it is trained and initialised."""
    return {**part, 'mixer': mixer, 'frozen_stages': -1, 'with_cp': False, 'init_cfg': None}


def unlabelled_loader(cfg: Config, images: str | None) -> dict[str, Any]:
    """A training loader: the config's own without its epochs, or one of a folder's images, prepared as for testing.

    Args:
        cfg: A config from :func:`xvit_det.config.load.load_config`.
        images: Folder; ``None``: the config's own training data.

    Raises:
        InputError: The config has no loader to start from, or no pipeline that reads images from files.
    """
    loader = cfg.get('train_dataloader')
    if not loader:
        raise InputError(f'config {cfg.filename} has no train_dataloader')
    loader = dict(loader, sampler=dict(type='InfiniteSampler', shuffle=True))
    if images is None:
        return loader
    pipeline = inference_pipeline(cfg)
    if not any('LoadImage' in str(step['type']) for step in pipeline):
        raise InputError(f'--images: the test images of config {cfg.filename} are not read from files of their own')
    loader.pop('batch_sampler', None)  # mmdet's looks up the images' sides, which no file tells here
    return loader | dict(dataset=dict(type='UnlabelledImages', data_root=images, pipeline=pipeline))


def plain_preprocessor(cfg: Config) -> dict[str, Any]:
    """The model's preprocessor without what it does to labels: normalisation and padding."""
    own = cfg.model.get('data_preprocessor') or {}
    return dict(
        type='ImgDataPreprocessor',
        mean=own.get('mean'),
        std=own.get('std'),
        bgr_to_rgb=own.get('bgr_to_rgb', own.get('to_rgb', False)),
        rgb_to_bgr=own.get('rgb_to_bgr', False),
        pad_size_divisor=own.get('pad_size_divisor', 1),
    )


def linearized_config(cfg: Config, name: str, mixer: Mixer, weights: Path) -> Config:
    """The config with another mixer, which starts from linearized weights.

    It is complete and does not inherit from the old one: options of the command line are in it, too.

    Args:
        cfg: The config of the model that was linearized.
        name: The backbone's name in it, such as ``'backbone'``.
        mixer: The new mixer.
        weights: The checkpoint.
    """
    cfg = copy.deepcopy(cfg)
    backbone_config(cfg, name).update(mixer=mixer, init_cfg=None)
    cfg.load_from, cfg.resume = str(weights.resolve()), False
    return cfg


def _describe(mixer: Mixer) -> str:
    if isinstance(mixer, str):
        return mixer
    return ', '.join([mixer['type'], *(f'{name}={value}' for name, value in mixer.items() if name != 'type')])
