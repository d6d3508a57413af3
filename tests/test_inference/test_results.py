"""Predictions in other formats, and drawn."""

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.mask import decode

from xvit_det.errors import InputError
from xvit_det.inference import Prediction

CLASSES = ('cat', 'dog', 'über')


@pytest.fixture
def objects() -> Prediction:
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:30, 5:25], masks[1, 40:50, 60:75] = True, True
    boxes = np.array([[5, 10, 25, 30], [60, 40, 75, 50]], np.float32)
    grey = np.full((60, 80, 3), 128, np.uint8)
    return Prediction(np.array([1, 2]), np.array([0.9, 0.5]), CLASSES, (60, 80), boxes, masks, image=grey)


@pytest.fixture
def regions() -> Prediction:
    label_map = np.zeros((60, 80), int)
    label_map[:, 60:] = 2
    return Prediction(
        np.array([0, 2]),
        np.array([0.75, 0.25]),
        CLASSES,
        (60, 80),
        label_map=label_map,
        image=np.zeros((60, 80), np.uint8),
    )


@pytest.fixture
def ranks() -> Prediction:
    return Prediction(np.array([1, 0]), np.array([0.8, 0.1]), CLASSES, (60, 80), image=np.zeros((60, 80), np.uint8))


def test_it_reads_well(objects, ranks):
    assert repr(objects) == 'Prediction(80 x 60: dog 0.90, über 0.50)'
    assert repr(objects.select(objects.scores > 0.95)) == 'Prediction(80 x 60: nothing)'
    assert ranks.names == ['dog', 'cat'] and len(ranks) == 2


def test_coco_results_are_read_by_pycocotools(objects):
    coco = COCO()
    coco.dataset = dict(
        info={},
        images=[dict(id=7, width=80, height=60)],
        categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES, start=1)],
        annotations=[],
    )
    coco.createIndex()
    rows = coco.loadRes(objects.to_coco(image_id=7)).dataset['annotations']
    assert [row['category_id'] for row in rows] == [2, 3] and [row['score'] for row in rows] == [0.9, 0.5]
    assert [row['bbox'] for row in rows] == [[5, 10, 20, 20], [60, 40, 15, 10]]
    assert [row['area'] for row in rows] == [400, 150]
    assert (np.array([coco.annToMask(row) for row in rows], bool) == objects.masks).all()
    assert [row['category_id'] for row in objects.to_coco(category_ids=[11, 12, 13])] == [12, 13]


def test_a_label_map_is_a_mask_for_each_class(regions, ranks):
    first, second = regions.to_coco()
    assert first['bbox'] == [0, 0, 60, 60] and second['bbox'] == [60, 0, 20, 60] and 'score' not in first
    assert (decode(second['segmentation']) == (regions.label_map == 2)).all()
    with pytest.raises(InputError, match='a classifier finds no objects'):
        ranks.to_coco()


def test_supervision(objects, regions, ranks):
    detections = objects.to_supervision()
    assert (detections.xyxy == objects.boxes).all() and (detections.mask == objects.masks).all()
    assert [*detections['class_name']] == ['dog', 'über'] and [*detections.class_id] == [1, 2]
    assert regions.to_supervision().mask.sum() == 60 * 80
    assert [*ranks.to_supervision().class_id] == [1, 0]


def test_drawings_mark_the_objects_and_leave_the_rest(objects):
    drawn = objects.draw()
    assert drawn.size == (640, 480)  # enlarged, to be read
    small = np.asarray(objects.draw(enlarge=False)).astype(int)
    assert small.shape == (60, 80, 3)
    assert abs(small[15:29, 7:23] - 128).max(axis=2).min() > 20  # the mask
    assert (small[52:, :50] == 128).all()  # the background
    assert (np.asarray(objects.select(np.array([], int)).draw(enlarge=False)) == 128).all()


@pytest.mark.parametrize('kind', ['regions', 'ranks'])
def test_other_kinds_are_drawn(kind, request):
    assert np.asarray(request.getfixturevalue(kind).draw()).std() > 5


def test_tracks_are_in_names_and_results(objects):
    from dataclasses import replace

    tracked = replace(objects, tracks=np.array([4, -1]))
    assert [row.get('track_id') for row in tracked.to_coco()] == [4, None]
    assert np.asarray(tracked.draw()).tobytes() != np.asarray(objects.draw()).tobytes()


def test_an_image_of_another_size_is_not_drawn_on(objects):
    with pytest.raises(InputError, match='the image has 10 x 20 pixels, but the prediction is of one with 80 x 60'):
        objects.draw(Image.new('RGB', (10, 20)))


def test_without_supervision_a_sentence_says_what_to_install(objects, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'supervision', None)
    with pytest.raises(InputError, match=r"needs supervision .*pip install 'xvit_det\[predict\]'"):
        objects.draw()
