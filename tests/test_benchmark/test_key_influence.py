"""The benchmark of the key's influence: the boxes of the keys, and shares that add up."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import key_influence  # noqa: E402

import xvit_det  # noqa: E402
from xvit_det.config.load import load_config  # noqa: E402
from xvit_det.datasets.shapes import ContextSpec, ensure_shapes  # noqa: E402
from xvit_det.inference import Prediction, Predictor  # noqa: E402


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    spec = ContextSpec(1, 2)
    return ensure_shapes(tmp_path_factory.mktemp('data') / 'context', spec)


def test_shares_add_up(data, monkeypatch):
    classes = ('sun', 'moon', 'day', 'night')
    model = xvit_det.create_model('mask_rcnn_xvit_context').eval()
    predictor = Predictor(model, load_config('mask_rcnn_xvit_context'), classes)
    monkeypatch.setattr(predictor, 'predict', lambda image: found)
    image, (x, y, width, height) = next(iter(key_influence.key_boxes(data, 1).items()))
    assert 70 < width < 95 and 70 < height < 95, 'the key is the large disc'
    boxes = np.array([[x, y, x + width, y + height], [180, 40, 220, 80]], float)
    found = Prediction(np.array([0, 2]), np.array([0.9, 0.8]), classes, (128, 384), boxes=boxes)
    area, all_influence = key_influence.shares(predictor, image, [0, 0, 384, 128])
    assert area == 1 and all_influence == pytest.approx(dict.fromkeys(all_influence, 1.0)) and len(all_influence) == 4
    (left_area, left), (right_area, right) = (
        key_influence.shares(predictor, image, [start, 0, 192, 128]) for start in (0, 192)
    )
    assert left_area == right_area == 0.5
    for block, share in left.items():
        assert 0 < share < 1 and share + right[block] == pytest.approx(1, abs=1e-5)
    found = found.select(np.array([0]))
    assert key_influence.shares(predictor, image, [0, 0, 384, 128]) is None, 'nothing but the key was found'
