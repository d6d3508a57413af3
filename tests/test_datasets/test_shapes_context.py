"""Shapes in context: names that follow from the key's colour alone, further away than convolutions see."""

import hashlib
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope
from pycocotools.coco import COCO

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
from xvit_det.datasets.shapes.context import INKS, REACH, draw_context_scene
from xvit_det.datasets.shapes.drawing import Dice, rgb

SCENES = [draw_context_scene(Dice(3, 0, number), 128) for number in range(60)]


def _ink(pixels):
    """The number of the ink that the saturated ones of some pixels (P, 3) are closest to in direction."""
    pixels = pixels[np.ptp(pixels.astype(float), axis=1) > 60].astype(float)  # without the key's white rim
    inks = np.array([rgb(ink) for ink in INKS])
    unit = inks / np.linalg.norm(inks, axis=1, keepdims=True)
    votes = (pixels / np.linalg.norm(pixels, axis=1, keepdims=True) @ unit.T).argmax(1)
    return int(np.bincount(votes).argmax())


def _shape_ink(scene, index):
    return _ink(scene.image[scene.owner == index])


def _key(scene):
    """The key's pixels as a mask (H, W), found in the image: the white rim, and all in its bounding box."""
    white = (scene.image.min(axis=2) > 225).astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(white)
    x, y, width, height, _ = stats[1:][stats[1:, cv2.CC_STAT_WIDTH].argmax()]
    mask = np.zeros_like(white, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def test_scene_is_the_recorded_one():
    """Whoever changes what is drawn raises ContextSpec.version and records the new digests."""
    scene = draw_context_scene(Dice(0, 0, 1), 128)
    assert ContextSpec().version == 1
    assert hashlib.sha256(scene.image.tobytes()).hexdigest()[:16] == '250f6a1d3b156df2'
    assert hashlib.sha256(scene.owner.tobytes()).hexdigest()[:16] == '01b07868a423246f'


@pytest.mark.parametrize('scene', SCENES[:20])
def test_names_follow_from_the_colours_in_the_image(scene):
    key = _ink(scene.image[_key(scene)])
    inks = [_shape_ink(scene, index) for index in range(1, len(scene.shapes) + 1)]
    assert [shape.kind for shape in scene.shapes] == ['same' if ink == key else 'other' for ink in inks]


def test_nothing_but_the_key_tells_the_names():
    """Both names are equally common, in each colour as well, and most scenes hold both."""
    named = [(shape.kind, _shape_ink(s, i)) for s in SCENES for i, shape in enumerate(s.shapes, 1)]
    assert 0.42 < np.mean([name == 'same' for name, _ in named]) < 0.58
    for ink in range(len(INKS)):
        assert 0.25 < np.mean([name == 'same' for name, other in named if other == ink]) < 0.75
    assert np.mean([len({shape.kind for shape in scene.shapes}) == 2 for scene in SCENES]) > 0.75


@pytest.mark.parametrize('scene', SCENES[:20])
def test_key_is_out_of_reach(scene):
    key, shapes = np.flatnonzero(_key(scene).any(0)), np.flatnonzero((scene.owner > 0).any(0))
    assert max(shapes.min() - key.max(), key.min() - shapes.max()) > REACH - 2


def test_both_ends_crowds_and_sizes_are_there():
    sides = [np.flatnonzero((scene.owner > 0).any(0)).mean() < 192 for scene in SCENES]
    assert 0.3 < np.mean(sides) < 0.7
    assert 3 < sum(shape.crowd for scene in SCENES for shape in scene.shapes) < 25
    areas = [shape.pixels for scene in SCENES for shape in scene.shapes if not shape.crowd]
    assert max(areas) > 6 * min(areas)


def test_convolutions_of_the_demos_detector_do_not_reach_the_key():
    """Without attention, no pixel at `REACH` or further changes the map that shapes of this size are named by."""
    cfg = load_config('mask_rcnn_xvit_context')
    init_default_scope('mmdet')
    backbone, neck = MODELS.build(cfg.model.backbone).eval(), MODELS.build(cfg.model.neck).eval()
    for block in backbone.blocks:
        torch.nn.init.zeros_(block.affine1.alpha)
    image = torch.randn(1, 3, 128, 960, requires_grad=True)
    centre = 480
    neck(backbone(image))[0][..., 16, centre // 4].sum().backward()
    seen = np.flatnonzero(image.grad.abs().amax((0, 1, 2)))
    reach = max(centre - seen.min(), seen.max() - centre)
    assert 100 < reach < REACH
    extractor = cfg.model.roi_head.bbox_roi_extractor
    assert 2 * extractor.get('finest_scale', 56) > 64, 'the largest shapes are named by this map'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return ensure_label_maps(tmp_path_factory.mktemp('data') / 'context', ContextSpec(num_train=4, num_val=3, seed=5))


@pytest.mark.parametrize('split, number', [('train', 4), ('val', 3)])
def test_folder_is_coco_and_a_registered_dataset(folder, split, number):
    coco = COCO(folder / annotation_file(split))
    assert [category['name'] for category in coco.dataset['categories']] == ['same', 'other']
    assert {(image['height'], image['width']) for image in coco.dataset['images']} == {(128, 384)}
    config = dict(type='ContextShapesDataset', split=split, data_root=str(folder), num_train=4, num_val=3, seed=5)
    dataset = DATASETS.build(config | dict(pipeline=[], filter_cfg=None))
    assert len(dataset) == number and dataset.metainfo['classes'] == ('same', 'other')
    for index in range(number):
        info = dataset.get_data_info(index)
        assert len(info['instances']) == len(coco.imgToAnns[info['img_id']]) >= 1


def test_label_maps_name_the_visible_shapes(folder):
    scene = draw_context_scene(Dice(5, 1, 1), 128)
    drawn = cv2.imread(str(folder / label_folder('val') / f'{1:012d}.png'), cv2.IMREAD_GRAYSCALE)
    for index, shape in enumerate(scene.shapes, start=1):
        assert (drawn[scene.owner == index] == {'same': 1, 'other': 2}[shape.kind]).all()
    assert (drawn[scene.owner == 0] == 0).all()


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
