"""The benchmark of large images: its mosaics, its evaluation, and a tiny run of it."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import large_images  # noqa: E402
import large_plots  # noqa: E402
from mosaics import FIELD, draw_field, draw_mosaic, write_mosaics  # noqa: E402

from xvit_det.datasets.shapes.drawing import Dice  # noqa: E402


def test_boxes_agree_with_pixels():
    image, objects = draw_mosaic(Dice(2), 1, 2)
    dice = Dice(2)
    left = draw_field(dice)
    empty = [draw_field(Dice(2), shapes=0).image, draw_field(dice, shapes=0).image]
    painted = (image != np.concatenate(empty, axis=1)).any(axis=2)
    assert (image[:, :FIELD] == left.image).all() and len(objects) > len(left.shapes) > 0
    for thing in objects:
        x, y, width, height = thing['bbox']
        assert 6 <= width <= 42 and 6 <= height <= 42
        # The soft edge of a shape covers a part of the pixels around its box.
        near = painted[y - 1 : y + height + 1, x - 1 : x + width + 1]
        found = cv2.boundingRect(near.astype(np.uint8))
        assert np.abs(np.array(found) - (1, 1, width, height)).max() <= 2
        assert near.sum() >= thing['area']
        near[:] = False
    assert not painted.any()


@pytest.fixture
def truth(tmp_path) -> Path:
    return write_mosaics(tmp_path / 'data', images=1, rows=4, columns=8, seed=3)


def test_more_than_a_hundred_objects_count(truth):
    objects = json.loads(truth.read_text())['annotations']
    assert len(objects) > 100
    boxes = [dict(row, score=0.9) for row in objects]
    assert large_images.evaluate(truth, boxes) == dict(mAP=1, AP50=1, AR=1)
    some = large_images.evaluate(truth, boxes[::2])
    assert 0.4 < some['AR'] < 0.6 and 0.4 < some['mAP'] < 0.6
    shifted = [dict(row, bbox=[row['bbox'][0] + 0.3 * row['bbox'][2], *row['bbox'][1:]]) for row in boxes]
    loose = large_images.evaluate(truth, shifted)
    assert loose['AP50'] == 1 and loose['mAP'] < 0.2, 'an IoU of 0.54'
    assert large_images.evaluate(truth, []) == dict(mAP=0, AP50=0, AR=0)


def test_a_box_is_right_for_one_object_of_its_class():
    thing = dict(category_id=1, bbox=[0, 0, 10, 10])
    boxes = [
        dict(thing, score=0.6),
        dict(thing, score=0.9),
        dict(thing, score=0.95, category_id=2),
        dict(thing, score=0.99, bbox=[8, 8, 10, 10]),
    ]
    assert large_plots.match([thing], boxes) == ([1], [0])


@pytest.mark.heavy
def test_a_tiny_run_goes_on_where_it_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(large_plots, 'PART', (0, 0, 400, 300))
    monkeypatch.setattr(large_images, 'TRAIN', dict(images=2, rows=4, columns=4, seed=0))
    monkeypatch.setattr(large_images, 'TEST', dict(images=2, rows=2, columns=4, seed=1))

    def run(*ways: str) -> list[dict]:
        options = ['--steps', '2', '--work-dir', 'work', '--json', 'record.json', '--backbones', 'X-ViT']
        monkeypatch.setattr(sys, 'argv', ['large_images.py', *options, '--ways', *ways])
        large_images.main()
        return json.loads(Path('record.json').read_text())['rows']

    first = run('tiles')
    assert [row['way'] for row in first] == ['tiles']
    monkeypatch.setattr(large_images, 'build_runner', None)  # trained already
    rows = run('one pass', 'tiles')
    assert [row['way'] for row in rows] == ['tiles', 'one pass', large_images.ZEROED]
    assert rows[0] == first[0]
    assert all(row['seconds'] > 0 and row['peak_gib'] > 0 for row in rows)
    assert rows[1]['peak_gib'] > rows[0]['peak_gib'], 'of a whole image, and of a tile'
    assert cv2.imread('record.jpg') is not None
