"""Parameters and MACs of shipped configs."""

import functools
from dataclasses import dataclass

from mmengine.config import Config
from torch import nn

from xvit_det.analysis.counts import count_detector_macs, count_macs, count_parameters
from xvit_det.config.load import read_config
from xvit_det.config.shapes import build_shapes
from xvit_det.hub import complete_model

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
        model_macs: Those of the whole model, see :func:`model_macs`.
    """

    name: str
    backbone: str
    parameters: int
    backbone_parameters: int
    size: tuple[int, int]
    macs: int
    model_macs: int | None


@functools.cache
def model_row(name: str) -> ModelRow:
    """Build and count the model of one config."""
    cfg = read_config(name)
    model = model_shapes(cfg)
    backbone, size = model.get_submodule('backbone'), input_size(cfg)
    return ModelRow(
        name=name,
        backbone=type(backbone).__name__,
        parameters=count_parameters(model),
        backbone_parameters=count_parameters(backbone),
        size=size,
        macs=count_macs(backbone, size),
        model_macs=model_macs(cfg, model),
    )


def model_shapes(cfg: Config) -> nn.Module:
    """The model of a config, with shapes but without numbers."""
    complete_model(cfg)
    return build_shapes(cfg.model, cfg.default_scope)


def model_macs(cfg: Config, model: nn.Module) -> int | None:
    """Multiply-accumulates of a whole model; ``None`` for DETRs and Mask2Former, which need more than an image."""
    if cfg.default_scope == 'mmdet':
        return count_detector_macs(model, input_size(cfg))
    if cfg.model.get('decode_head', {}).get('type') == 'Mask2FormerHead':
        return None
    return count_macs(model, input_size(cfg))


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width that a config's model is counted for.

    The size that a classifier, segmentor or self-supervised method crops to, 800 x 1344 for a detector.
    """
    if cfg.default_scope == 'mmdet':
        return DETECTION_SIZE
    if cfg.default_scope == 'mmseg':
        return tuple(cfg.model.data_preprocessor.size)
    if 'img_size' in cfg.model.backbone:
        side = cfg.model.backbone.img_size
    elif 'view_pipeline' in cfg:  # self-supervision
        side = cfg.view_pipeline[0].scale
    else:
        side = next(step.crop_size for step in cfg.test_pipeline if step.type == 'CenterCrop')
    return (side, side)
