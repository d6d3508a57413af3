"""Shapes: the same scenes everywhere, exact COCO annotations, a folder that is whole or not there."""

import hashlib
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmengine.registry import DATASETS, METRICS
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import xvit_det.datasets.shapes.dataset  # noqa: F401  (registers it)
import xvit_det.datasets.shapes.seg_dataset
import xvit_det.engine.class_iou  # noqa: F401
from xvit_det import InputError
from xvit_det.cli.shapes import main
from xvit_det.datasets.shapes import (
    CLASSES,
    ShapesSpec,
    annotation_file,
    ensure_label_maps,
    ensure_shapes,
    image_folder,
    label_folder,
)
from xvit_det.datasets.shapes import folder as shapes_folder
from xvit_det.datasets.shapes.drawing import MIN_VISIBLE_PART, Dice, draw_scene
from xvit_det.datasets.shapes.folder import polygons, run_lengths

SPEC = ShapesSpec(num_train=24, num_val=8, size=128, seed=5)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return ensure_shapes(tmp_path_factory.mktemp('data') / 'shapes', SPEC)


@pytest.fixture(params=['train', 'val'])
def split(request):
    return request.param


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}


def _masks(segmentation, height, width):
    """The mask (H, W) that pycocotools makes of an annotation's segmentation."""
    codes = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(coco_mask.merge(codes) if isinstance(codes, list) else codes).astype(bool)


# Scenes


def test_scene_is_the_recorded_one():
    """Whoever changes what is drawn raises ShapesSpec.version and records the new digests."""
    scene = draw_scene(Dice(0, 0, 1), 192)
    assert ShapesSpec().version == 2
    assert hashlib.sha256(scene.image.tobytes()).hexdigest()[:16] == 'bdff387c3fcac45c'
    assert hashlib.sha256(scene.owner.tobytes()).hexdigest()[:16] == '8d56bcfcaac92ef2'


def test_same_seed_same_bytes_and_other_seed_other_scenes(folder, tmp_path):
    again = ensure_shapes(tmp_path / 'again', SPEC)
    assert _files(again) == _files(folder)
    other = ensure_shapes(tmp_path / 'other', ShapesSpec(num_train=2, num_val=2, size=128, seed=6))
    name = f'{image_folder("train")}{1:012d}.png'
    assert (other / name).read_bytes() != (folder / name).read_bytes()


def test_more_images_keep_the_first_ones(folder, tmp_path):
    fewer = ensure_shapes(tmp_path / 'fewer', ShapesSpec(num_train=3, num_val=2, size=128, seed=5))
    files = _files(folder)
    assert all(files[name] == content for name, content in _files(fewer).items() if name.endswith('.png'))


@pytest.mark.parametrize('size', [64, 97, 192])
def test_scenes_are_varied_but_every_shape_stays_recognisable(size):
    kinds, parts, sizes, crowds = set(), [], [], 0
    for number in range(60):
        scene = draw_scene(Dice(3, number), size)
        assert scene.image.shape == (size, size, 3) and scene.image.std() > 3
        assert any(not shape.crowd for shape in scene.shapes)
        assert scene.owner.max() <= len(scene.shapes)
        for i, shape in enumerate(scene.shapes, start=1):
            visible = int((scene.owner == i).sum())
            assert visible >= max(1, MIN_VISIBLE_PART * shape.pixels)
            crowds += shape.crowd
            kinds.add(shape.kind)
            parts.append(visible / shape.pixels)
            sizes.append((visible**0.5) / size)
    assert kinds == set(CLASSES)
    assert 5 <= crowds <= 30
    assert np.mean(np.array(parts) < 0.9) > 0.1, 'too little occlusion'
    # At the demo's 192 pixels, COCO's small objects are those under a sixth of the side.
    assert min(sizes) < 32 / 192 * 0.75 and max(sizes) > 0.3


# Annotations


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_polygons_and_run_lengths_fill_to_exactly_the_mask(mask):
    assert np.array_equal(_masks(run_lengths(mask), *mask.shape), mask)
    parts = polygons(mask)
    assert np.array_equal(_masks(parts, *mask.shape) if parts else np.zeros_like(mask), mask)


def test_ring_is_cut_through_its_hole():
    mask = cv2.circle(np.zeros((40, 40), np.uint8), (20, 20), 15, 1, 5) > 0
    assert not mask[20, 20]
    assert len(polygons(mask)) == 2
    assert np.array_equal(_masks(polygons(mask), 40, 40), mask)


def test_annotations_are_exact_coco(folder, split):
    coco = COCO(folder / annotation_file(split))
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert len(coco.imgs) == (SPEC.num_train if split == 'train' else SPEC.num_val)
    for image_id, info in coco.imgs.items():
        scene = draw_scene(Dice(SPEC.seed, ('train', 'val').index(split), image_id), SPEC.size)
        image = cv2.imread(str(folder / image_folder(split) / info['file_name']))
        assert np.array_equal(image[..., ::-1], scene.image)
        annotations = coco.imgToAnns[image_id]
        assert len(annotations) == len(scene.shapes)
        for index, (annotation, shape) in enumerate(zip(annotations, scene.shapes, strict=True), start=1):
            mask = coco.annToMask(annotation).astype(bool)
            assert np.array_equal(mask, scene.owner == index)
            assert annotation['area'] == mask.sum()
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation['bbox']
            assert (x, y, x + width, y + height) == (
                columns.min(),
                rows.min(),
                columns.max() + 1,
                rows.max() + 1,
            )
            assert annotation['iscrowd'] == shape.crowd
            assert isinstance(annotation['segmentation'], dict if shape.crowd else list)


def test_crowds_are_there(folder):
    coco = COCO(folder / annotation_file('train'))
    assert coco.getAnnIds(iscrowd=True)


# Label maps


def test_label_maps_are_the_annotations_pixel_by_pixel(folder, split):
    coco = COCO(folder / annotation_file(split))
    assert len(list((folder / label_folder(split)).iterdir())) == len(coco.imgs)
    for image_id, info in coco.imgs.items():
        labels = cv2.imread(str(folder / label_folder(split) / info['file_name']), cv2.IMREAD_UNCHANGED)
        assert labels.dtype == np.uint8 and labels.shape == (SPEC.size, SPEC.size)
        expected = np.zeros_like(labels)
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation).astype(bool)
            assert not expected[mask].any(), 'the visible parts do not overlap'
            expected[mask] = annotation['category_id']
        assert np.array_equal(labels, expected)


def test_folder_from_before_label_maps_gets_them(folder, tmp_path):
    old = shutil.copytree(folder, tmp_path / 'old')
    shutil.rmtree(old / 'semantic')
    before = _files(old)
    assert _files(ensure_shapes(old, SPEC)) == before, 'detection needs none'
    assert _files(ensure_label_maps(old, SPEC)) == _files(folder)
    assert [p.name for p in tmp_path.iterdir()] == ['old']


def test_interrupted_adding_of_label_maps_leaves_the_folder_as_it_was(folder, tmp_path, monkeypatch):
    old = shutil.copytree(folder, tmp_path / 'old')
    shutil.rmtree(old / 'semantic')
    before = _files(old)
    monkeypatch.setattr(shapes_folder.cv2, 'imwrite', lambda *args: False)
    with pytest.raises(OSError, match='Could not write'):
        ensure_label_maps(old, SPEC)
    assert _files(old) == before


# The folder


@pytest.mark.parametrize(
    'values, words',
    [
        (dict(size=63), 'size must be a whole number of at least 64, not 63'),
        (dict(num_train=0), 'num_train'),
        (dict(num_val=2.5), 'num_val'),
        (dict(seed=-1), 'seed'),
    ],
)
def test_wrong_numbers_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        ShapesSpec(**values)


def test_folder_of_other_scenes_is_not_reused(folder):
    before = _files(folder)
    with pytest.raises(InputError, match='holds other Shapes .*seed 5.*than asked for.*seed 9'):
        ensure_shapes(folder, ShapesSpec(num_train=24, num_val=8, size=128, seed=9))
    assert _files(folder) == before


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / 'holiday.jpg').write_text('mine')
    with pytest.raises(InputError, match='not a Shapes folder'):
        ensure_shapes(tmp_path, SPEC)
    assert [p.name for p in tmp_path.iterdir()] == ['holiday.jpg']


def test_empty_folder_is_filled_and_readable_like_any_other(tmp_path):
    (tmp_path / 'shapes').mkdir()
    folder = ensure_shapes(tmp_path / 'shapes', ShapesSpec(num_train=1, num_val=1, size=64))
    (tmp_path / 'plain').mkdir()
    assert folder.stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes_folder.cv2, 'imwrite', stop)
    with pytest.raises(KeyboardInterrupt):
        ensure_shapes(tmp_path / 'shapes', SPEC)
    assert not list(tmp_path.iterdir())


def test_full_disk_is_not_mistaken_for_another_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes_folder.cv2, 'imwrite', lambda *args: False)
    with pytest.raises(OSError, match='Could not write'):
        ensure_shapes(tmp_path / 'shapes', SPEC)
    assert not list(tmp_path.iterdir())


def test_writer_that_comes_second_uses_the_first_ones_folder(tmp_path, monkeypatch):
    write, spec = shapes_folder._write, ShapesSpec(num_train=2, num_val=1, size=64)

    def overtaken(draft, spec):
        write(draft, spec)
        shutil.copytree(draft, tmp_path / 'shapes')
        (tmp_path / 'shapes' / 'first').touch()

    monkeypatch.setattr(shapes_folder, '_write', overtaken)
    assert (ensure_shapes(tmp_path / 'shapes', spec) / 'first').exists()
    assert [p.name for p in tmp_path.iterdir()] == ['shapes']


def test_two_processes_at_once(tmp_path):
    command = [sys.executable, '-m', 'xvit_det', 'shapes', str(tmp_path / 'shapes')]
    command += ['--images', '40', '--val-images', '5', '--size', '64', '--seed', '2']
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for writer in writers:
        assert '40 training and 5 validation images' in writer.communicate()[0]
        assert writer.returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ['shapes']
    assert len(COCO(tmp_path / 'shapes' / annotation_file('train')).imgs) == 40


def test_command_says_what_is_wrong(folder, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([str(folder), '--images', '3'])
    assert exit_.value.code == 2
    assert 'holds other Shapes' in capsys.readouterr().err


# The datasets of mmdet and mmseg


def _dataset(folder, split, name='ShapesDataset', **kwargs):
    spec = dict(num_train=SPEC.num_train, num_val=SPEC.num_val, size=SPEC.size, seed=SPEC.seed)
    return DATASETS.build(dict(type=name, split=split, data_root=str(folder), **spec, **kwargs))


def _seg_dataset(folder, split):
    pipeline = [dict(type=name, _scope_='mmseg') for name in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')]
    return _dataset(folder, split, 'ShapesSegDataset', pipeline=pipeline)


def test_dataset_reads_all_and_marks_crowds(folder, split):
    pipeline = [
        dict(type='LoadImageFromFile', _scope_='mmdet'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True, _scope_='mmdet'),
        dict(type='PackDetInputs', _scope_='mmdet'),
    ]
    dataset = _dataset(folder, split, pipeline=pipeline)
    coco = json.loads((folder / annotation_file(split)).read_text())
    assert len(dataset) == len(coco['images'])
    samples = [sample['data_samples'] for sample in dataset]
    assert sum(len(s.gt_instances) for s in samples) == sum(not a['iscrowd'] for a in coco['annotations'])
    assert sum(len(s.ignored_instances) for s in samples) == sum(a['iscrowd'] for a in coco['annotations'])
    areas = [mask.sum() for s in samples for mask in s.gt_instances.masks.masks]
    assert sorted(areas) == sorted(a['area'] for a in coco['annotations'] if not a['iscrowd'])


def test_seg_dataset_pairs_images_and_label_maps(folder, split):
    dataset = _seg_dataset(folder, split)
    assert dataset.metainfo['classes'] == ('background', *CLASSES)
    assert len(dataset) == (SPEC.num_train if split == 'train' else SPEC.num_val)
    for image_id, sample in enumerate(dataset, start=1):
        scene = draw_scene(Dice(SPEC.seed, ('train', 'val').index(split), image_id), SPEC.size)
        assert np.array_equal(sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1], scene.image)  # (3, H, W), BGR
        labels = sample['data_samples'].gt_sem_seg.data[0].numpy()  # (1, H, W) -> (H, W)
        assert np.array_equal(labels > 0, scene.owner > 0)
        for index, shape in enumerate(scene.shapes, start=1):
            assert {dataset.metainfo['classes'][i] for i in labels[scene.owner == index]} <= {shape.kind}


@pytest.mark.parametrize('name', ['ShapesDataset', 'ShapesSegDataset'])
def test_dataset_refuses_an_unknown_split(folder, name):
    with pytest.raises(InputError, match="train, val, not 'test'"):
        _dataset(folder, 'test', name)


def _iou(dataset, shift):
    """The metrics of predictions that are the annotations moved to the right by ``shift`` pixels."""
    metric = METRICS.build(dict(type='ClassIoUMetric'))
    metric.dataset_meta = dataset.metainfo
    for sample in dataset:
        truth = sample['data_samples'].gt_sem_seg.data
        moved = torch.roll(truth, shift, dims=2)
        metric.process({}, [dict(pred_sem_seg=dict(data=moved), gt_sem_seg=dict(data=truth))])
    return metric.evaluate(size=len(dataset))


def test_mean_iou_is_the_mean_of_its_classes(folder):
    dataset = _seg_dataset(folder, 'val')
    names = {f'IoU/{name}' for name in dataset.metainfo['classes']}
    exact, moved = _iou(dataset, 0), _iou(dataset, 4)
    assert names == {name for name in exact if '/' in name} and {exact[name] for name in names} == {100.0}
    assert exact['mIoU'] == 100
    assert 30 < moved['mIoU'] < 90
    assert moved['mIoU'] == pytest.approx(np.mean([moved[name] for name in names]), abs=0.01)


def test_class_that_is_nowhere_has_no_iou(folder):
    dataset = _seg_dataset(folder, 'val')
    dataset._metainfo['classes'] += ('hexagon',)
    metrics = _iou(dataset, 0)
    assert metrics['mIoU'] == 100 and 'IoU/ring' in metrics and 'IoU/hexagon' not in metrics


@pytest.mark.parametrize('shift, perfect', [(0, True), (4, False)])
def test_coco_metric_gives_one_to_the_annotations_themselves(folder, shift, perfect):
    """Predictions equal to the annotations score 1.0 for boxes and masks; the same moved by a few pixels do not."""
    dataset = _dataset(folder, 'val', test_mode=True)
    ann_file = str(folder / annotation_file('val'))
    metric = METRICS.build(dict(type='mmdet.CocoMetric', ann_file=ann_file, metric=['bbox', 'segm']))
    metric.dataset_meta = dataset.metainfo
    coco = COCO(folder / annotation_file('val'))
    for image_id in coco.imgs:
        annotations = [a for a in coco.imgToAnns[image_id] if not a['iscrowd']]
        boxes = np.array([a['bbox'] for a in annotations], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        masks = np.stack([np.roll(coco.annToMask(a), shift, axis=1) for a in annotations])
        prediction = dict(
            bboxes=torch.from_numpy(boxes + shift),
            scores=torch.from_numpy(np.ones(len(annotations), np.float32)),
            labels=torch.from_numpy(np.array([dataset.cat2label[a['category_id']] for a in annotations])),
            masks=[coco_mask.encode(np.asfortranarray(mask)) for mask in masks],
        )
        shape = (SPEC.size, SPEC.size)
        metric.process({}, [dict(img_id=image_id, ori_shape=shape, pred_instances=prediction)])
    scores = metric.evaluate(size=len(coco.imgs))
    for name in ('coco/bbox_mAP', 'coco/segm_mAP'):
        assert scores[name] == pytest.approx(1.0) if perfect else 0 < scores[name] < 0.8
