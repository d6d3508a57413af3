"""mmdet's own inference works with the shipped configs."""

from collections import OrderedDict

import cv2
import numpy as np
import pytest
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

import xvit_det

DETECTORS = [
    name for name in xvit_det.list_models() if Config.fromfile(xvit_det.find_config(name)).default_scope == 'mmdet'
]
IMAGE = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())  # mmdet's functions set one for good


@pytest.mark.parametrize('name', DETECTORS)
def test_config_has_what_inference_asks_for(name):
    cfg = Config.fromfile(xvit_det.find_config(name))
    assert cfg.visualizer.type == 'DetLocalVisualizer'
    pipeline = [step for step in cfg.test_dataloader.dataset.pipeline if step['type'] != 'LoadAnnotations']
    packed = Compose([{**step, '_scope_': 'mmdet'} for step in pipeline[1:]])(
        dict(img=IMAGE, img_id=0, img_path='', img_shape=IMAGE.shape[:2], ori_shape=IMAGE.shape[:2])
    )
    assert packed['inputs'].shape[0] == 3 and packed['data_samples'].scale_factor


def test_inferencer_draws_and_writes(tmp_path):
    inferencer = DetInferencer(str(xvit_det.find_config('mask_rcnn_xvit_shapes')), device='cpu', show_progress=False)
    cv2.imwrite('1.png', IMAGE)
    inferencer('1.png', out_dir=str(tmp_path / 'out'), no_save_pred=False, pred_score_thr=0.0)
    assert sorted(path.suffix for path in (tmp_path / 'out').rglob('*.*')) == ['.json', '.png']


def test_detector_is_built_without_drawing_scenes(tmp_path):
    detector = init_detector(xvit_det.find_config('mask_rcnn_xvit_shapes'), device='cpu', palette='none')
    assert len(inference_detector(detector, IMAGE).pred_instances) > 0
    assert not list(tmp_path.iterdir())
