"""Damaged annotation files: every kind of fault is found under its name, and what is repaired is sound."""

import contextlib
import copy
import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask
from pycocotools.coco import COCO

from xvit_det.coco.check import check_entries
from xvit_det.coco.problems import KINDS, NOTE, Problem, worst
from xvit_det.coco.reading import read_annotations
from xvit_det.coco.repair import repair
from xvit_det.coco.segmentations import decode_counts
from xvit_det.coco.statistics import summarize
from xvit_det.errors import InputError

WIDTH, HEIGHT = 64, 48
NAN, INF, HUGE = math.nan, math.inf, 10**400
Change = Callable[[dict[str, Any], int], None]  # of the content, with a number that chooses the entry


def annotation(number: int, image: int, category: int, box: list[int], segmentation: Any = None) -> dict[str, Any]:
    """An object; without a segmentation its box is its polygon."""
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    found = dict(id=number, image_id=image, category_id=category, bbox=box, area=w * h, iscrowd=0)
    return found | dict(segmentation=segmentation or [polygon])


def sound() -> dict[str, Any]:
    """A file in which nothing is wrong, with polygons, an RLE as a list and one as a text."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    pixels[20:28, 10:40] = 1
    size = [HEIGHT, WIDTH]
    text = mask.encode(pixels)['counts'].decode()
    return dict(
        images=[dict(id=i, file_name=f'{i}.png', width=WIDTH, height=HEIGHT) for i in range(3)],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
        annotations=[
            annotation(1, 0, 1, [1, 2, 10, 12]),
            annotation(2, 0, 2, [20, 5, 30, 40]),
            annotation(3, 1, 1, [2, 0, 2, 48], dict(size=size, counts=[96, 96, 2880])),
            annotation(4, 2, 2, [10, 20, 30, 8], dict(size=size, counts=text)),
            annotation(5, 2, 1, [0, 0, 64, 48]),
        ],
    )


def put(entries: str, key: str, *values: Any) -> list[Change]:
    """Set a key of an entry, to each of the values."""

    def setter(value: Any) -> Change:
        def change(content: dict[str, Any], n: int) -> None:
            entry = content[entries][n % len(content[entries])]
            if isinstance(entry, dict):
                entry[key] = value

        return change

    return [setter(value) for value in values]


def replace(entries: str, *values: Any) -> list[Change]:
    """Put something else in the place of an entry."""

    def replacer(value: Any) -> Change:
        def change(content: dict[str, Any], n: int) -> None:
            content[entries][n % len(content[entries])] = value

        return change

    return [replacer(value) for value in values]


def drop(entries: str, *keys: str) -> list[Change]:
    """Take a key from an entry."""

    def dropper(key: str) -> Change:
        def change(content: dict[str, Any], n: int) -> None:
            entry = content[entries][n % len(content[entries])]
            if isinstance(entry, dict):
                entry.pop(key, None)

        return change

    return [dropper(key) for key in keys]


def twice(entries: str, key: str) -> list[Change]:
    """Give the next entry the value of a key."""

    def change(content: dict[str, Any], n: int) -> None:
        first, second = (content[entries][i % len(content[entries])] for i in (n, n + 1))
        if isinstance(first, dict) and isinstance(second, dict) and key in first:
            second[key] = first[key]

    return [change]


NO_ENTRIES = (None, 1, 'text', [], {}, True, NAN)
RLE = dict(size=[HEIGHT, WIDTH])
BOXES = (None, [], {}, 5, 'text', [1, 2, 3], [1, 2, 3, 4, 5], [NAN, 1, 5, 5], [1, 1, INF, 5], [1, 1, 5, None])
RLES = ('abc', '', '\x00', 'é' * 9, None, 5, [3071], [-1, 3073], ['3072'], [1536.0, 1536.0])
POLYGONS = (
    [None],
    [[NAN] * 6],
    [['1'] * 6],
    [[1, 1, 9, 1, 9, HUGE]],
    [[0, 0, 1e12, 0, 1e12, 1]],
    [[1, 1, 9, 1, 9, INF]],
)
FAULTS: dict[str, list[Change]] = {
    'image_keys': [
        *drop('images', 'id', 'file_name'),
        *replace('images', *NO_ENTRIES),
        *put('images', 'id', None, [], {}, 1.5, NAN),
        *put('images', 'file_name', None, '', 7),
    ],
    'image_unsized': [
        *drop('images', 'width', 'height'),
        *put('images', 'width', 0, -1, None, '64', NAN, INF, HUGE, 2**40),
    ],
    'image_id_twice': twice('images', 'id'),
    'image_file_twice': twice('images', 'file_name'),
    'category_keys': [
        *drop('categories', 'id', 'name'),
        *replace('categories', *NO_ENTRIES),
        *put('categories', 'id', None, [], 0.5),
        *put('categories', 'name', None, 3, '', ['cat']),
    ],
    'category_id_twice': twice('categories', 'id'),
    'category_name_twice': twice('categories', 'name'),
    'category_unused': replace('categories', dict(id=3, name='bird')),
    'image_bare': replace('images', dict(id=9, file_name='9.png', width=WIDTH, height=HEIGHT)),
    'annotation_keys': [
        *drop('annotations', 'image_id', 'category_id', 'bbox'),
        *replace('annotations', *NO_ENTRIES),
        *put('annotations', 'image_id', None, [], {}, 0.5),
    ],
    'annotation_id': [
        *twice('annotations', 'id'),
        *drop('annotations', 'id'),
        *put('annotations', 'id', None, [], NAN),
    ],
    'image_unknown': put('annotations', 'image_id', 77, '0', -1, HUGE),
    'category_unknown': put('annotations', 'category_id', 0, 77, 'cat'),
    'box_not_finite': put('annotations', 'bbox', *BOXES, ['1', '2', '3', '4'], [[1], [2], [3], [4]], [1, 1, HUGE, 5]),
    'box_far': put('annotations', 'bbox', [0, 0, 1e30, 10], [-1e6, 0, 2e6, 10], [0, 0, 10**300, 9]),
    'box_empty': put('annotations', 'bbox', [1, 1, 0, 5], [1, 1, 5, -3], [1, 1, 0.5, 0.5]),
    'box_outside': put('annotations', 'bbox', [64, 0, 5, 5], [-10, 3, 10, 10], [1, 48.5, 5, 5]),
    'box_beyond': put('annotations', 'bbox', [60, 0, 20, 5], [-5, 3, 10, 10]),
    'area': [*drop('annotations', 'area'), *put('annotations', 'area', None, '5', NAN, INF, [])],
    'area_empty': put('annotations', 'area', 0, -3),
    'iscrowd': [*drop('annotations', 'iscrowd'), *put('annotations', 'iscrowd', None, 2, 'no', [])],
    'crowd': put('annotations', 'iscrowd', 1, True),
    'mask_absent': [*drop('annotations', 'segmentation'), *put('annotations', 'segmentation', None, [], {}, '')],
    'mask_form': put(
        'annotations', 'segmentation', 'text', 7, [1, 1, 9, 1, 9, 9], [[[1, 1], [9, 1], [9, 9]]], *POLYGONS
    ),
    'mask_points': put('annotations', 'segmentation', [[1, 1, 9, 9]], [[1, 1, 9, 1, 9, 9, 1]], [[]], [[1, 1], [1]]),
    'mask_part': put('annotations', 'segmentation', [[1, 1, 9, 1, 9, 9], [1, 1, 9, 9]]),
    'mask_rle': [
        *put('annotations', 'segmentation', *(RLE | dict(counts=counts) for counts in RLES), RLE, dict(counts=[3072])),
        *put('annotations', 'segmentation', dict(size=[WIDTH, HEIGHT], counts=[3072]), dict(size='48', counts=[3072])),
    ],
}
CHANGES = [change for changes in FAULTS.values() for change in changes]


def kinds(content: dict[str, Any]) -> set[str]:
    return {problem.kind for problem in check_entries(content)}


def test_nothing_is_wrong():
    assert check_entries(sound()) == []


@pytest.mark.parametrize('kind', FAULTS)
def test_every_fault_is_found(kind):
    for change in FAULTS[kind]:
        for n in range(5):
            content = sound()
            change(content, n)
            found = {problem.kind: problem for problem in check_entries(content)}
            assert kind in found
            assert found[kind].positions and found[kind].describe(content, found[kind].positions[0])
            assert (worst(found.values()) is not None) >= (KINDS[kind].level == 'error')
            summarize(content)


def test_faults_of_the_whole_file():
    on_disk = {'image_missing', 'image_empty', 'image_unreadable', 'image_size'}  # in test_images.py
    assert KINDS.keys() == FAULTS.keys() | on_disk | {'boxes_beyond', 'nothing_left'}
    corners = sound()
    boxes = [[x, 9, x + 20, 40] for x in range(20, 44)]  # x, y, x2, y2
    corners['annotations'] = [annotation(i, 0, 1, box) for i, box in enumerate(boxes)]
    assert 'boxes_beyond' in kinds(corners)
    with pytest.raises(InputError, match='x, y, width, height'):
        repair(corners, [])
    crowds = sound()
    for entry in crowds['annotations']:
        entry['iscrowd'] = 1
    for content in (crowds, sound() | dict(annotations=[]), sound() | dict(images=[])):
        assert 'nothing_left' in kinds(content)
    assert 'nothing_left' not in {p.kind for p in check_entries(sound() | dict(annotations=[]), needed=False)}


def test_what_is_not_needed_is_not_asked_for():
    content = sound()
    for entry in content['annotations']:
        del entry['iscrowd'], entry['segmentation']
    assert kinds(content) == {'iscrowd', 'mask_absent', 'nothing_left'}
    assert check_entries(content, masks=False, evaluated=False) == []


def test_panoptic_annotations_are_left_alone():
    assert check_entries(sound() | dict(annotations=[dict(image_id=0, file_name='0.png', segments_info=[])])) == []


def test_categories_of_one_name_are_merged():
    content = sound()
    content['categories'] += [dict(id=3, name='cat'), dict(id=4, name='cat')]
    content['annotations'][1]['category_id'] = 4
    repaired, lines = repair(content, [])
    assert [category['id'] for category in repaired['categories']] == [1, 2]
    assert [entry['category_id'] for entry in repaired['annotations']] == [1, 1, 1, 2, 1]
    assert lines[0].startswith("merged: category 3 (name 'cat'); its annotations go to category 1 [")
    # Not into one whose id could be of either, and those are left out first.
    content['categories'][0]['id'] = 2
    repaired, lines = repair(content, [])
    assert [category['id'] for category in repaired['categories']] == [3]
    assert [entry['category_id'] for entry in repaired['annotations']] == [3]
    assert 'its annotations could be of either' in lines[0]


def test_images_of_one_id_stay_where_the_file_is_the_same():
    content = sound()
    content['images'].append(content['images'][0] | dict(licence=2))
    repaired, lines = repair(content, [])
    assert repaired == sound() and 'removed: image 0' in lines[0] and 'the first one stays' in lines[0]
    for other in (dict(file_name='other.png'), dict(width=99)):
        content['images'][-1] = content['images'][0] | other
        repaired, lines = repair(content, [])
        assert [image['id'] for image in repaired['images']] == [1, 2] and len(repaired['annotations']) == 3
        assert 'its annotations could be of either' in lines[0] and 'its annotations could be of either' in lines[1]
    # Where the file tells which one is wrong, the other one stays.
    assert repair(content, [Problem('image_size', [3])])[0] == sound()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 4)), min_size=1, max_size=6), st.data())
def test_what_is_repaired_is_sound(changes, data):
    """Whatever comes together: a repair leaves nothing wrong, pycocotools reads it, or one sentence says why not."""
    content = sound()
    for change, n in changes:
        change(content, n)
    content = copy.deepcopy(content)
    before = copy.deepcopy(content)
    try:
        repaired, lines = repair(content, [])
    except InputError as error:
        assert 'cannot be repaired' in str(error)
        return
    assert repr(content) == repr(before)
    assert bool(lines) == any(problem.level != NOTE for problem in check_entries(content))
    assert {problem.level for problem in check_entries(repaired)} <= {NOTE}
    load(json.loads(json.dumps(repaired)))


def load(content: dict[str, Any]) -> None:
    """As mmdet and its evaluation do."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = content
        coco.createIndex()
    assert len(coco.anns) == len(content['annotations']) and len(coco.imgs) == len(content['images'])
    for entry in coco.anns.values():
        assert coco.annToMask(entry).shape == (HEIGHT, WIDTH)
        assert np.isfinite([*entry['bbox'], entry['area']]).all() and entry['iscrowd'] in (0, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ['id', 'image_id', 'category_id', 'bbox', 'area', 'segmentation', 'width', 'height', 'file_name']
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(['images', 'annotations', 'categories']), KEYS, st.integers(0, 4), JSON), max_size=5
    )
)
def test_no_value_breaks_the_check(values):
    content = sound()
    for entries, key, n, value in values:
        put(entries, key, value)[0](content, n)
    for problem in check_entries(content):
        for position in problem.positions:
            problem.describe(content, position).encode()
    summarize(content)


VALID = json.dumps(sound()).encode()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(VALID)), st.integers(0, 40), st.binary(max_size=8))
def test_damaged_bytes_are_refused_or_read(tmp_path_factory, start, length, inserted):
    path = tmp_path_factory.getbasetemp() / 'damaged.json'
    path.write_bytes(VALID[:start] + inserted + VALID[start + length :])
    try:
        content = read_annotations(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        check_entries(content)


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'', 'is not a JSON file'),
        (b'null', 'holds null'),
        (b'[]', 'holds a list'),
        (b'{}', 'no images and no categories'),
        (b'{"images": {}, "categories": []}', 'images are an object, not a list'),
        (b'\xef\xbb\xbf' + VALID, 'byte-order mark'),
        (VALID.decode().encode('utf-16'), 'is not a JSON file'),
        (b'[' * 100_000, 'nested too deeply'),
    ],
)
def test_files_that_are_not_in_coco_format(tmp_path, data, reason):
    path = tmp_path / 'a.json'
    path.write_bytes(data)
    with pytest.raises(InputError, match=reason):
        read_annotations(path)
    with pytest.raises(InputError, match='cannot be read: Is a directory'):
        read_annotations(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_runs_are_read_as_pycocotools_writes_them(seed, share):
    pixels = np.asfortranarray(np.random.default_rng(seed).random((13, 300)) < share).astype(np.uint8)
    pixels[:, 100:220] = 1  # a run that takes several characters
    counts = decode_counts(mask.encode(pixels)['counts'].decode())
    assert np.array_equal(np.repeat(np.arange(len(counts)) % 2, counts), pixels.flatten(order='F'))


def test_statistics():
    classes = {count.name: count for count in summarize(sound()).classes}
    assert classes['cat'][1:] == (3, 3, 2, 1, 0, 0)  # 10x12 and 2x48 are small, 64x48 is medium
    assert classes['dog'][1:] == (2, 2, 1, 1, 0, 0)
    assert summarize(sound()).sides.tolist()[-1] == pytest.approx((64 * 48) ** 0.5)


def made(boxes, ids=None):
    """A file with one image of 100 x 80 pixels and these boxes."""
    numbers = ids or range(1, len(boxes) + 1)
    annotations = [
        dict(id=i, image_id=1, category_id=1, bbox=box, area=box[2] * box[3], iscrowd=0)
        for i, box in zip(numbers, boxes, strict=True)
    ]
    images = [dict(id=1, file_name='a.jpg', width=100, height=80)]
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='a')])


def levels(content, **needs):
    return {problem.kind: problem.level for problem in check_entries(content, masks=False, **needs)}


def test_boxes_that_reach_beyond_the_image_are_legal_unless_all_are_corners():
    amodal = [[-6, 10, 40, 30]] * 12 + [[20, 10, 10, 30]] * 20
    assert levels(made(amodal)) == dict(box_beyond='note')
    corners = [[60, 50, 90, 78]] * 12 + [[20, 10, 30, 40]] * 20
    assert levels(made(corners)) == dict(boxes_beyond='error')


def test_ids_that_evaluation_mistakes_are_errors_where_it_runs():
    boxes = [[1, 1, 10, 10], [20, 20, 10, 10]]
    for ids in ([0, 1], ['a', 'b']):
        assert levels(made(boxes, ids)) == dict(annotation_id='error')
        assert levels(made(boxes, ids), evaluated=False) == {}
