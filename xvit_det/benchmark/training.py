"""A config's model, optimizer and data, built as the trainer builds them, for ``loader`` and ``detector``."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from xvit_det.backbones.pretrained import load_pretrained
from xvit_det.compat.quiet import without_log
from xvit_det.config.load import set_loader_defaults
from xvit_det.config.mistakes import parts
from xvit_det.errors import InputError
from xvit_det.hub import complete_model


def build_training(cfg: Config, device: str, checkpoint: str | None = None) -> tuple[BaseModel, OptimWrapper]:
    """The model, with random weights or a checkpoint's, and its optimizer.

    Raises:
        InputError: The config has no optimizer, or nothing in the checkpoint fits.
    """
    if not cfg.get('optim_wrapper'):
        raise InputError('the config has no optim_wrapper, so a training step cannot be taken')
    complete_model(cfg)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).to(device)
    if checkpoint:
        load_pretrained(model, checkpoint)
    with without_log():
        return model, build_optim_wrapper(model, cfg.optim_wrapper)


def drop_pretrained(model: MutableMapping) -> None:
    """Remove weights that a model's config would download, from all its parts."""
    for _, part in parts(model, 'model'):
        for key, value in part.items():
            inits = value if isinstance(value, list) else [value]
            pretrained = any(isinstance(init, Mapping) and init.get('type') == 'Pretrained' for init in inits)
            if pretrained or key in ('pretrained', 'teacher_ckpt'):
                part[key] = None


def build_loader(cfg: Config, split: str, workers: int | None = None) -> DataLoader:
    """The data loader of a split; ``workers`` overrides the config's number of processes.

    Raises:
        InputError: The config has none.
    """
    settings = cfg.get(f'{split}_dataloader')
    if not settings:
        raise InputError(f'the config has no {split}_dataloader')
    if workers is not None:
        settings.num_workers, settings.persistent_workers = workers, workers > 0
    set_loader_defaults(cfg)
    return Runner.build_dataloader(settings, seed=0)


def endless(loader: DataLoader) -> Iterator[Any]:
    """Batches, epoch after epoch."""
    while True:
        yield from loader
