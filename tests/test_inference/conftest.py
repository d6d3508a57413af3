"""Small models with their configs beside them, as training leaves them, and drawn scenes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import xvit_det
from xvit_det.datasets.shapes import ContextSpec, ensure_shapes
from xvit_det.hub import find_config


@pytest.fixture(scope='session')
def save_model(tmp_path_factory) -> Callable[..., Path]:
    """``save_model(name, meta, **overrides)``: a checkpoint of a shipped config with untrained weights, beside it the
    config."""

    def save(name: str, meta: dict | None = None, **overrides: object) -> Path:
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        model = xvit_det.create_model(name, **overrides)
        model.cfg.dump(folder / find_config(name).name)
        torch.save(dict(state_dict=model.state_dict(), meta=meta or {}), folder / 'checkpoint.pth')
        return folder / 'checkpoint.pth'

    return save


@pytest.fixture(scope='session')
def detector(save_model) -> Path:
    """Checkpoint of an untrained Mask R-CNN."""
    return save_model('mask_rcnn_xvit_context')


@pytest.fixture(scope='session')
def segmentor(save_model) -> Path:
    return save_model('semantic_fpn_xvit_shapes')


@pytest.fixture(scope='session')
def classifier(save_model) -> Path:
    return save_model('vin_cifar10')


@pytest.fixture(scope='session')
def scenes(tmp_path_factory) -> Path:
    """Data folder with two drawn scenes of 384 x 128 pixels in ``val2017``."""
    return ensure_shapes(tmp_path_factory.mktemp('data') / 'scenes', ContextSpec(num_train=1, num_val=2))
