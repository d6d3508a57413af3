"""Predictions are those that ``xvit-det test`` evaluates; checkpoints that do not fit are refused."""

import copy
import pickle
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.mask import decode

import xvit_det
from xvit_det.cli.runner import evaluate
from xvit_det.config.load import load_config
from xvit_det.errors import InputError

CONTEXT = ('sun', 'moon', 'day', 'night')


@pytest.fixture(scope='module')
def model(detector):
    return xvit_det.load(detector)


@pytest.fixture
def image(scenes) -> Path:
    return scenes / 'val2017' / '000000000001.png'


def dumped(config: str, checkpoint: Path, folder: Path, tmp_path: Path) -> list[dict]:
    """What ``xvit-det test --out`` writes, of one image at a time."""
    options = [
        'test_dataloader.batch_size=1',
        *(f'test_dataloader.dataset.num_{s}={n}' for s, n in (('train', 1), ('val', 2))),
    ]
    cfg = load_config(config, data_root=str(folder), options=options, work_dir=str(tmp_path))
    evaluate(cfg, str(checkpoint), out=str(tmp_path / 'out.pkl'))
    return pickle.loads((tmp_path / 'out.pkl').read_bytes())


def test_a_detector_predicts_what_is_tested(model, detector, scenes, tmp_path):
    for row in dumped('mask_rcnn_xvit_context', detector, scenes, tmp_path):
        found, expected = model.predict(row['img_path'], score=0), row['pred_instances']
        assert len(found) == len(expected['scores']) > 0
        for name, tensor in (('boxes', 'bboxes'), ('scores', 'scores'), ('labels', 'labels')):
            assert (getattr(found, name) == expected[tensor].numpy()).all()
        assert (found.masks == np.array([decode(mask) for mask in expected['masks']], bool)).all()
        assert (found.classes, found.size) == (CONTEXT, (128, 384))


@pytest.mark.heavy
def test_photographs_are_predicted_as_they_are_tested(save_model, coco_tiny, tmp_path):
    """With scaling and padding, on real photographs of several sizes."""
    checkpoint = save_model('mask_rcnn_xvit_t_3x')
    options = ['test_dataloader.batch_size=1', 'test_dataloader.num_workers=0', 'test_dataloader.dataset.indices=2']
    options += ['test_dataloader.dataset.pipeline.1.scale=(160,96)', 'model.test_cfg.rcnn.score_thr=0.0']
    options.append('model.test_cfg.rcnn.max_per_img=10')
    cfg = load_config('mask_rcnn_xvit_t_3x', data_root=str(coco_tiny), options=options, work_dir=str(tmp_path))
    cfg.dump(tmp_path / 'small.py')
    evaluate(cfg, str(checkpoint), out=str(tmp_path / 'out.pkl'))
    model = xvit_det.load(checkpoint, tmp_path / 'small.py')
    for row in pickle.loads((tmp_path / 'out.pkl').read_bytes()):
        found, expected = model.predict(row['img_path'], score=0), row['pred_instances']
        assert (found.boxes == expected['bboxes'].numpy()).all() and len(found) > 0
        assert (found.scores == expected['scores'].numpy()).all()
        assert found.size == mmcv.imread(row['img_path']).shape[:2] == found.masks.shape[1:]


def test_a_segmentor_predicts_what_is_tested(segmentor, tmp_path):
    from xvit_det.datasets.shapes import ShapesSpec, ensure_label_maps

    folder = ensure_label_maps(tmp_path / 'scenes', ShapesSpec(num_train=1, num_val=2))
    model = xvit_det.load(segmentor)
    for row in dumped('semantic_fpn_xvit_shapes', segmentor, folder, tmp_path):
        found = model.predict(row['img_path'])
        assert (found.label_map == row['pred_sem_seg']).all() and found.boxes is None
        assert found.scores.sum() == pytest.approx(1) and [*found.labels] == sorted(
            {*found.labels}, key=lambda label: -(found.label_map == label).sum()
        )
        assert found.to_coco()[0]['area'] == (found.label_map == found.labels[0]).sum()


def test_a_classifier_predicts_as_the_model_does(classifier):
    """CIFAR-10's dataset gives RGB images, without files."""
    model = xvit_det.load(classifier)
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = model.predict(rgb[..., ::-1], top_k=3)
    inputs = model.model.data_preprocessor(dict(inputs=[torch.from_numpy(rgb).permute(2, 0, 1)]))['inputs']
    with torch.no_grad():
        scores = model.model(inputs, mode='tensor').softmax(dim=1)[0]
    assert found.scores == pytest.approx(scores.topk(3).values.numpy(), abs=1e-6)
    assert found.names == [model.classes[label] for label in scores.topk(3).indices] and model.classes[0] == 'airplane'
    assert len(model.predict(rgb, top_k=50)) == 10


def test_all_kinds_of_images_alone_and_in_lists(model, image):
    pixels = cv2.imread(str(image))
    tensor = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)
    images = [image, str(image), pixels, Image.open(image), tensor]
    first, *others = model.predict(images, score=0)
    for other in others:
        assert (other.boxes == first.boxes).all() and (other.scores == first.scores).all()
    batched = model.predict(images, score=0, batch_size=2)
    for one, other in zip(batched, [first, *others], strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    assert len(model.predict(image, score=1)) == 0 and model.predict([]) == []


def test_fusing_changes_the_last_digits_only(model, detector, image):
    fused, plain = xvit_det.load(detector, fuse=True).predict(image, score=0), model.predict(image, score=0)
    assert fused.scores == pytest.approx(plain.scores, abs=1e-4)


def test_a_model_can_be_copied(model, image):
    copied = pickle.loads(pickle.dumps(model.model)), copy.deepcopy(model)
    assert len(copied[1].predict(image, score=0)) == len(model.predict(image, score=0))


def test_no_masks_are_computed_below_the_score(model, image):
    """And those above it are what they are without the score."""
    number_of_masks, everything = [], model.predict(image, score=0)
    score = float(np.sort(everything.scores)[-3])
    handle = model.model.roi_head.mask_head.register_forward_pre_hook(lambda _, x: number_of_masks.append(len(x[0])))
    before = model.model.roi_head.test_cfg.score_thr
    best = model.predict(image, score=score)
    handle.remove()
    kept = everything.scores >= score
    assert number_of_masks == [len(best)] == [kept.sum()] and 3 <= len(best) < len(everything)
    for name in ('boxes', 'scores', 'labels', 'masks'):
        assert np.array_equal(getattr(best, name), getattr(everything, name)[kept])
    assert model.model.roi_head.test_cfg.score_thr == before


@pytest.mark.parametrize('size', [(1, 1), (1, 400), (3000, 2)])
def test_tiny_and_narrow_images_give_results_or_a_sentence(model, size):
    found = model.predict(np.full((*size, 3), 128, np.uint8), score=0)
    assert found.size == size and found.masks.shape[1:] == size
    assert found.draw().width >= size[1]


def test_what_the_pipeline_cannot_prepare_is_a_sentence(save_model):
    model = xvit_det.load(save_model('mask_rcnn_xvit_t_3x'))
    with pytest.raises(InputError, match=r'the image \(1 x 5000 pixels\) cannot be prepared: '):
        model.predict(np.zeros((5000, 1, 3), np.uint8))


@pytest.mark.parametrize('wrong', [dict(score=2), dict(score=-1), dict(top_k=0), dict(batch_size=0)])
def test_numbers_out_of_range_are_refused(model, image, wrong):
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        model.predict(image, **wrong)


def test_the_config_beside_the_checkpoint_is_found_if_there_is_one(detector, tmp_path):
    checkpoint = tmp_path / 'model.pth'
    checkpoint.symlink_to(detector)
    with pytest.raises(InputError, match='there is no config beside checkpoint .*model.pth: name one'):
        xvit_det.load(checkpoint)
    assert xvit_det.load(checkpoint, 'mask_rcnn_xvit_context').classes == CONTEXT
    for name in ('a.py', 'b.py'):
        (tmp_path / name).write_text('')
    with pytest.raises(InputError, match=r'there is 2 configs \(a.py, b.py\) beside'):
        xvit_det.load(checkpoint)
    with pytest.raises(InputError, match='nothing.pth does not exist'):
        xvit_det.load(tmp_path / 'nothing.pth')
    with pytest.raises(InputError, match='a.py describes no model'):
        xvit_det.load(checkpoint, tmp_path / 'a.py')


def test_checkpoints_that_do_not_fit_are_refused(detector, segmentor, tmp_path):
    with pytest.raises(InputError, match='is of another architecture than the config'):
        xvit_det.load(detector, 'semantic_fpn_xvit_shapes')
    with pytest.raises(InputError, match='is of another architecture than the config'):
        xvit_det.load(segmentor, 'mask_rcnn_xvit_context')
    with pytest.raises(InputError, match="device 'gpu' cannot be used"):
        xvit_det.load(detector, device='gpu')
    (tmp_path / 'text.pth').write_text('hello')
    with pytest.raises(InputError, match='text.pth cannot be read as PyTorch weights'):
        xvit_det.load(tmp_path / 'text.pth', 'mask_rcnn_xvit_context')


def test_class_names_of_the_checkpoint_count_and_must_be_as_many_as_classes(save_model, image):
    named = save_model('mask_rcnn_xvit_context', dict(dataset_meta=dict(classes=('a', 'b', 'c', 'd'))))
    assert xvit_det.load(named).classes == ('a', 'b', 'c', 'd')
    three = save_model('mask_rcnn_xvit_context', dict(dataset_meta=dict(classes=('a', 'b', 'c'))))
    with pytest.raises(InputError, match='roi_head.bbox_head of the model has 4 classes, but the checkpoint names 3'):
        xvit_det.load(three)


def test_averaged_weights_count(save_model, image):
    """What evaluation takes, as of timm's checkpoints."""
    checkpoint = save_model('mask_rcnn_xvit_context')
    weights = torch.load(checkpoint)['state_dict']
    averaged = {name: weight * 0.9 if weight.is_floating_point() else weight for name, weight in weights.items()}
    torch.save(dict(state_dict=weights, state_dict_ema=averaged), checkpoint)
    loaded = xvit_det.load(checkpoint).model.state_dict()
    assert all(torch.equal(loaded[name], averaged[name]) for name in loaded)


@pytest.mark.parametrize('kind', ['detector', 'segmentor'])
def test_a_batch_of_several_sizes_gives_what_each_image_gives_alone(kind, scenes, request):
    model = xvit_det.load(request.getfixturevalue(kind))
    one, two = (Image.open(path) for path in sorted((scenes / 'val2017').iterdir()))
    images = [one, two.resize((200, 100)), two, one.crop((0, 0, 211, 128))]
    for alone, together in zip(images, model.predict(images, score=0.01, batch_size=4), strict=True):
        alone = model.predict(alone, score=0.01)
        assert together.size == alone.size and together.names == alone.names
        if alone.boxes is not None:
            np.testing.assert_allclose(together.boxes, alone.boxes, atol=1e-2)


def test_a_model_that_was_trained_in_between_predicts_the_same(detector, scenes):
    model = xvit_det.load(detector)
    image = next((scenes / 'val2017').iterdir())
    before = model.predict(image, score=0.01)
    model.model.train()
    np.testing.assert_array_equal(model.predict(image, score=0.01).scores, before.scores)


def test_bfloat16(detector, scenes):
    model = xvit_det.load(detector)
    with torch.autocast('cpu', torch.bfloat16):
        found = model.predict(next((scenes / 'val2017').iterdir()), score=0.01)
    assert found.scores.dtype == np.float32
