"""Parameters and MACs of shipped configs."""

from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from xvit_det.analysis.counts import count_macs, count_parameters
from xvit_det.compat.quiet import import_quietly, without_log
from xvit_det.hub import complete_model, find_config

DETECTION_SIZE = (800, 1344)


@dataclass(frozen=True)
class ModelRow:
    """What a config builds.

    Args:
        name: The config's.
        backbone: Class of its backbone.
        parameters: Of the whole model.
        backbone_parameters: Of its backbone.
        size: Height and width that MACs are counted for, in pixels.
        macs: Multiply-accumulates of the backbone for one image of that size.
    """

    name: str
    backbone: str
    parameters: int
    backbone_parameters: int
    size: tuple[int, int]
    macs: int


def model_row(name: str) -> ModelRow:
    """Build and count the model of one config."""
    cfg = Config.fromfile(find_config(name))
    model = build_shapes(cfg)
    backbone, size = model.get_submodule('backbone'), input_size(cfg)
    return ModelRow(
        name=name,
        backbone=type(backbone).__name__,
        parameters=count_parameters(model),
        backbone_parameters=count_parameters(backbone),
        size=size,
        macs=count_macs(backbone, size),
    )


def build_shapes(cfg: Config) -> nn.Module:
    """The model of a config on PyTorch's meta device: shapes without numbers, at no cost of time or memory."""
    import_quietly(cfg.default_scope)
    complete_model(cfg)
    with torch.device('meta'), without_log():
        return MODELS.build({**cfg.model, '_scope_': cfg.default_scope})


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width that a config's model is counted for: a classifier's image size, 800 x 1344 for a detector."""
    if cfg.default_scope == 'mmdet':
        return DETECTION_SIZE
    if 'img_size' in cfg.model.backbone:
        side = cfg.model.backbone.img_size
    else:
        side = next(step.crop_size for step in cfg.test_pipeline if step.type == 'CenterCrop')
    return (side, side)
