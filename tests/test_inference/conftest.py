"""Small models with their configs beside them, as training leaves them, and drawn scenes."""

from pathlib import Path

import pytest

from xvit_det.datasets.shapes import ContextSpec, ensure_shapes


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
