"""Shapes in context: names that follow from the key's colour alone, further away than convolutions see."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope
from pycocotools.coco import COCO

import xvit_det.datasets.shapes.dataset  # noqa: F401  (registers it)
import xvit_det.datasets.shapes.seg_dataset  # noqa: F401
from xvit_det import InputError
from xvit_det.cli.shapes import main
from xvit_det.config.load import load_config
from xvit_det.datasets.shapes import (
    ContextSpec,
    ShapesSpec,
    annotation_file,
    ensure_label_maps,
    ensure_shapes,
    label_folder,
)
from xvit_det.datasets.shapes.context import CONTEXT_CLASSES, REACH, draw_context_scene
from xvit_det.datasets.shapes.drawing import Dice

SCENES = [draw_context_scene(Dice(3, 0, number), 128) for number in range(60)]


def _key(scene):
    """The key's pixels as a mask (H, W)."""
    return scene.owner == 1


def test_scene_is_the_recorded_one():
    """Whoever changes what is drawn raises ContextSpec.version and records the new digests."""
    scene = draw_context_scene(Dice(0, 0, 1), 128)
    assert ContextSpec().version == 1
    assert hashlib.sha256(scene.image.tobytes()).hexdigest()[:16] == 'f4e3e11fef14e199'
    assert hashlib.sha256(scene.owner.tobytes()).hexdigest()[:16] == '1c15df4e4cab0ced'


@pytest.mark.parametrize('scene', SCENES[:20])
def test_names_follow_from_the_keys_colour_in_the_image(scene):
    colour = scene.image[_key(scene)].astype(float)
    red, _, blue = colour[np.ptp(colour, axis=1) > 60].mean(0)  # without the white rim
    key, *names = (shape.kind for shape in scene.shapes)
    assert key == ('sun' if red > blue else 'moon')
    assert len(names) >= 1 and set(names) == {{'sun': 'day', 'moon': 'night'}[key]}


def _facts(scene):
    """What could tell the name without the key: colours, sizes, numbers and places."""
    shapes, ground = scene.image[scene.owner > 1].mean(0), scene.image[scene.owner == 0].mean(0)
    rows, columns = np.nonzero(_key(scene))
    return [*shapes, *ground, (scene.owner > 1).sum(), len(scene.shapes), rows.mean(), columns.mean()]


def test_nothing_but_the_key_tells_the_names():
    """Both names are equally common, and all else is alike."""
    facts = {name: [_facts(s) for s in SCENES if s.shapes[1].kind == name] for name in ('day', 'night')}
    assert 0.4 < len(facts['day']) / len(SCENES) < 0.6
    (day, night), spread = (np.mean(facts[name], 0) for name in facts), np.std(sum(facts.values(), []), 0)
    assert (abs(day - night) < 3.5 * spread * np.sqrt(4 / len(SCENES))).all(), 'three and a half standard errors'


@pytest.mark.parametrize('scene', SCENES)
def test_key_is_out_of_reach(scene):
    key, shapes = np.flatnonzero(_key(scene).any(0)), np.flatnonzero((scene.owner > 1).any(0))
    assert max(shapes.min() - key.max(), key.min() - shapes.max()) > REACH


def test_both_ends_crowds_and_sizes_are_there():
    sides = [np.flatnonzero(_key(scene).any(0)).mean() < 192 for scene in SCENES]
    assert 0.3 < np.mean(sides) < 0.7
    assert 3 < sum(shape.crowd for scene in SCENES for shape in scene.shapes) < 25
    areas = [shape.pixels for scene in SCENES for shape in scene.shapes[1:] if not shape.crowd]
    assert max(areas) > 6 * min(areas)


def test_convolutions_of_the_demos_detector_do_not_reach_the_key():
    """Without attention, no pixel at `REACH` or further changes the map that shapes of this size are named by."""
    cfg = load_config('mask_rcnn_xvit_context')
    init_default_scope('mmdet')
    backbone, neck = MODELS.build(cfg.model.backbone).eval(), MODELS.build(cfg.model.neck).eval()
    for block in backbone.blocks:
        torch.nn.init.zeros_(block.affine1.alpha)
    image = torch.randn(1, 3, 128, 960, requires_grad=True)
    (features,) = neck(backbone(image))
    centre, stride = 480, backbone.out_strides[0]
    features[..., 8, centre // stride].sum().backward()
    seen = np.flatnonzero(image.grad.abs().amax((0, 1, 2)))
    assert 100 < max(centre - seen.min(), seen.max() - centre) < REACH


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return ensure_label_maps(tmp_path_factory.mktemp('data') / 'context', ContextSpec(num_train=4, num_val=3, seed=5))


@pytest.mark.parametrize('split, number', [('train', 4), ('val', 3)])
def test_folder_is_coco_and_a_registered_dataset(folder, split, number):
    coco = COCO(folder / annotation_file(split))
    assert [category['name'] for category in coco.dataset['categories']] == ['sun', 'moon', 'day', 'night']
    assert {(image['height'], image['width']) for image in coco.dataset['images']} == {(128, 384)}
    config = dict(type='ContextShapesDataset', split=split, data_root=str(folder), num_train=4, num_val=3, seed=5)
    dataset = DATASETS.build(config | dict(pipeline=[], filter_cfg=None))
    assert len(dataset) == number and dataset.metainfo['classes'] == ('sun', 'moon', 'day', 'night')
    for index in range(number):
        info = dataset.get_data_info(index)
        assert len(info['instances']) == len(coco.imgToAnns[info['img_id']]) >= 2


def test_label_maps_name_the_visible_shapes(folder):
    scene = draw_context_scene(Dice(5, 1, 1), 128)
    drawn = cv2.imread(str(folder / label_folder('val') / f'{1:012d}.png'), cv2.IMREAD_GRAYSCALE)
    for index, shape in enumerate(scene.shapes, start=1):
        assert (drawn[scene.owner == index] == CONTEXT_CLASSES.index(shape.kind) + 1).all()
    assert (drawn[scene.owner == 0] == 0).all()


def test_seg_dataset_reads_the_same_folder(folder):
    config = dict(type='ContextShapesSegDataset', split='val', data_root=str(folder), num_train=4, num_val=3, seed=5)
    dataset = DATASETS.build(config | dict(pipeline=[]))
    assert len(dataset) == 3 and dataset.metainfo['classes'] == ('background', 'sun', 'moon', 'day', 'night')
    assert all(Path(dataset.get_data_info(index)['seg_map_path']).is_file() for index in range(3))


def test_plain_shapes_are_not_mistaken_for_scenes_in_context(tmp_path):
    spec = ShapesSpec(num_train=1, num_val=1, size=128)
    ensure_shapes(tmp_path / 'plain', spec)
    with pytest.raises(InputError, match='holds other Shapes'):
        ensure_shapes(tmp_path / 'plain', ContextSpec(num_train=1, num_val=1))


def test_too_small_scenes_are_refused():
    with pytest.raises(InputError, match='size must be a whole number of at least 128, not 96'):
        ContextSpec(size=96)


def test_command_writes_them(tmp_path, capsys):
    main([str(tmp_path / 'c'), '--context', '--images', '2', '--val-images', '1'])
    assert 'context' in json.loads((tmp_path / 'c' / 'shapes.json').read_text())['scenes']
    assert '2 training and 1 validation images' in capsys.readouterr().out
