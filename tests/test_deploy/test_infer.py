"""The file that runs exported models prepares images bit for bit as the config's test pipeline."""

import cv2
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from PIL import Image

from xvit_det.deploy import infer
from xvit_det.deploy.preparation import input_steps
from xvit_det.errors import InputError

SIZES = [(640, 427), (427, 640), (96, 96), (200, 151), (31, 500), (1, 1)]  # width, height


def draw(width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(width)
    return cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (3, 3), 0)


def prepared(pipeline: list[dict], image: np.ndarray, scope: str) -> np.ndarray:
    data = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    for step in pipeline:
        data = TRANSFORMS.build({**step, '_scope_': scope})(data)
    return data['img']


@pytest.mark.parametrize(
    ('scope', 'pipeline'),
    [
        ('mmdet', [dict(type='Resize', scale=(1333, 800), keep_ratio=True)]),
        ('mmdet', [dict(type='Resize', scale=(160, 96), keep_ratio=True)]),
        ('mmseg', [dict(type='Resize', scale=(300, 200), keep_ratio=False)]),
        ('mmpretrain', [dict(type='Resize', scale=64)]),
        (
            'mmpretrain',
            [
                dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
                dict(type='CenterCrop', crop_size=224),
            ],
        ),
    ],
)
@pytest.mark.parametrize('size', SIZES)
def test_images_are_resized_as_by_openmmlab(scope, pipeline, size):
    image = draw(*size)
    if size == (1, 1) and pipeline[0].get('keep_ratio'):
        pipeline = [dict(pipeline[0], scale=(8, 8))]
    if size[0] * 10 < size[1] and scope == 'mmpretrain' and len(pipeline) == 2:
        pipeline = [dict(pipeline[0], scale=16), dict(type='CenterCrop', crop_size=16)]
    steps = input_steps([dict(type='LoadImageFromFile'), *pipeline, dict(type='PackInputs')])
    found = infer.prepare(Image.fromarray(image), steps)
    assert (found == prepared(pipeline, image, scope)).all()


def test_halving_is_averaging_as_in_opencv():
    image = draw(64, 48)
    found = infer.resize(Image.fromarray(image), (32, 24), 'cv2', 'bilinear')
    assert (np.asarray(found) == cv2.resize(image, (32, 24))).all()


@pytest.mark.parametrize(
    ('step', 'named'),
    [
        (dict(type='Resize', scale=64, interpolation='area'), 'cv2 with area'),
        (dict(type='Pad', size=(64, 64)), 'Pad'),
        (dict(type='RandomFlip', prob=0.5), 'RandomFlip'),
    ],
)
def test_other_steps_are_refused(step, named):
    with pytest.raises(InputError, match=named):
        input_steps([step])
