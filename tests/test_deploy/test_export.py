"""Exported models predict in their runtimes what they predict here, for any number and size of images."""

import dataclasses
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import xvit_det
from xvit_det.cli import main
from xvit_det.cli.export_run import Differences
from xvit_det.deploy import infer
from xvit_det.deploy.export import export, export_backbone, make_graph
from xvit_det.errors import InputError
from xvit_det.inference.exported import ExportedPredictor

ARCH = dict(embed_dims=32, depth=4, attn_dims=32, num_heads=4, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)
PLAIN = dict(embed_dims=(32,), depths=(4,), num_heads=(4,), head_dims=8, hidden_dims=(64,))
PLAIN |= dict(pyramid_indices=(0, 1, 2, 3), init_std=0.02)


@pytest.fixture(scope='module')
def mask_rcnn(save_small):
    """A small Mask R-CNN, and its ONNX file."""
    checkpoint = save_small('mask_rcnn_xvit_s_3x')
    model = xvit_det.load(checkpoint)
    path = checkpoint.with_name('model.onnx')
    export(model, path)
    return model, path


def difference(model, exported, images, batch_size=1):
    """Of the predictions of a model and of an exported one, image by image and in a batch."""
    total = Differences()
    for expected, found in zip(
        model.predict(images, score=0), exported.predict(images, score=0, batch_size=batch_size), strict=True
    ):
        total.add(expected, found)
    return total


@pytest.mark.heavy
def test_mask_rcnn_in_onnxruntime(mask_rcnn, draw_images):
    model, path = mask_rcnn
    exported = ExportedPredictor(path, threads=1)
    batch = [image[..., ::-1] for image in draw_images((96, 160), (96, 160), (131, 57), (33, 200), (300, 300))]
    found = difference(model, exported, batch, batch_size=5)
    assert found.objects > 20
    assert not found.problem
    assert found.box < 1e-3
    assert found.mask > 0.999
    assert len(exported.predict(batch[0], score=1.0)) == 0


@pytest.mark.heavy
def test_a_padded_batch_in_onnxruntime(mask_rcnn, draw_images):
    """Images of several sizes at once give what mmdet gives for the padded batch."""
    model, path = mask_rcnn
    runtime = ExportedPredictor(path, threads=1).runtime
    images = [Image.fromarray(image) for image in draw_images((96, 160), (96, 128))]
    outputs = runtime.predict(images, score=0.2)
    prepared = [model.prepare(image) for image in images]
    data = {key: [one[key] for one in prepared] for key in ('inputs', 'data_samples')}
    with torch.no_grad():
        expected = [sample.pred_instances for sample in model.model.test_step(data)]
    for found, objects in zip(outputs, expected, strict=True):
        objects = objects[objects.scores >= 0.2]
        assert len(found['scores']) == len(objects) > 0
        np.testing.assert_allclose(found['boxes'], objects.bboxes, atol=1e-2)
        assert (found['masks'] == objects.masks.numpy()).mean() > 0.999


BACKBONES = {
    'X-ViT, fused, padding masked': lambda: xvit_det.XViT(arch=ARCH, mask_padding=True).eval().fuse(),
    'X-ViT, class attention': lambda: xvit_det.XViT(arch=ARCH, out_type='cls_token'),
    'performer': lambda: xvit_det.ViX(arch=PLAIN, mixer='performer', img_size=128, position='axial', stem='deep_conv'),
    'nystrom': lambda: xvit_det.ViX(arch=PLAIN, mixer='nystrom', img_size=128),
    'fourier': lambda: xvit_det.ViX(arch=PLAIN, mixer='fourier', img_size=128),
    'linformer': lambda: xvit_det.ViX(arch=PLAIN, mixer='linformer', img_size=128),
    'mlp': lambda: xvit_det.ViX(arch=PLAIN, mixer='mlp', img_size=128),
}


@pytest.mark.heavy
@pytest.mark.parametrize('name', BACKBONES)
def test_backbones_in_onnxruntime(name, tmp_path):
    torch.manual_seed(0)
    net = BACKBONES[name]().eval()
    export_backbone(net, tmp_path / 'net.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'net.onnx', providers=['CPUExecutionProvider'])
    fixed = name == 'mlp'
    for shape in [(1, 3, 128, 128), (3, 3, 128, 128)] if fixed else [(1, 3, 160, 160), (2, 3, 201, 267)]:
        x = torch.randn(shape)
        with torch.no_grad():
            expected = net(x)
        for found, value in zip(session.run(None, dict(images=x.numpy())), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=0, atol=1e-4 * value.abs().max())


@pytest.mark.heavy
def test_classifiers_and_segmentors_in_onnxruntime(tmp_path, save_model, draw_images):
    for config in ('vin_cifar10', 'semantic_fpn_xvit_shapes'):
        model = xvit_det.load(save_model(config))
        export(model, tmp_path / 'model.onnx')
        found = difference(model, ExportedPredictor(tmp_path / 'model.onnx'), draw_images((192, 192), (97, 131)))
        assert found.objects > 5
        assert not found.problem


@pytest.mark.heavy
def test_programs_of_torch_need_torch_and_torchvision_alone(save_small, draw_images, pad, make_environment, tmp_path):
    """The one-stage detectors, in an environment that has neither this package nor OpenMMLab."""
    model = xvit_det.load(save_small('retinanet_xvit_s_1x'))
    export(model, tmp_path / 'model.pt2')
    (image,) = draw_images((160, 192))
    np.save(tmp_path / 'image.npy', image)
    (tmp_path / 'run.py').write_text(
        'import sys, numpy, torch, torchvision\n'
        'program = torch.export.load(sys.argv[1]).module()\n'
        'image = torch.from_numpy(numpy.load(sys.argv[2]))[None]\n'
        'size = torch.tensor([image.shape[1:3]])\n'
        'numpy.save(sys.argv[3], program(image, size, size, torch.tensor(0.0))[1].detach().numpy())\n'
    )
    run = make_environment('torch', 'torchvision', package=False)
    done = run(*(tmp_path / name for name in ('run.py', 'model.pt2', 'image.npy', 'boxes.npy')))
    assert not done.returncode, done.stderr
    stacked, sizes = pad([image], 32)
    with torch.no_grad():
        expected = make_graph(model.model)(stacked, sizes, sizes, torch.tensor(0.0))[1].numpy()
    np.testing.assert_allclose(np.load(tmp_path / 'boxes.npy'), expected, atol=1e-2)


@pytest.mark.heavy
def test_openvino(save_small, draw_images, tmp_path):
    pytest.importorskip('openvino', reason='openvino is not installed')
    model = xvit_det.load(save_small('dino_xvit_s_12e'), fuse=True)
    export(model, tmp_path / 'model.xml')
    found = difference(model, ExportedPredictor(tmp_path / 'model.xml'), draw_images((96, 160), (131, 57)))
    assert found.objects > 15
    assert not found.problem


@pytest.mark.heavy
def test_infer_needs_no_more_than_three_packages(mask_rcnn, draw_images, make_environment, tmp_path):
    """infer.py finds what the model finds, in an environment of onnxruntime, numpy and Pillow."""
    model, path = mask_rcnn
    shutil.copy(infer.__file__, tmp_path / 'infer.py')
    (image,) = draw_images((96, 160))
    Image.fromarray(image).save(tmp_path / 'image.png')
    run = make_environment('onnxruntime', 'numpy', 'pillow', package=False)
    done = run(tmp_path / 'infer.py', path, tmp_path / 'image.png', '--score', '0.2', '--draw', tmp_path / 'drawn.png')
    assert not done.returncode, done.stderr
    found, expected = json.loads(done.stdout), model.predict(tmp_path / 'image.png', score=0.2)
    assert len(expected) > 0
    assert found['labels'] == expected.labels.tolist()
    np.testing.assert_allclose(found['boxes'], expected.boxes, atol=1e-2)
    np.testing.assert_allclose(found['scores'], expected.scores, atol=1e-4)
    with Image.open(tmp_path / 'drawn.png') as drawn:
        assert drawn.size == (160, 96)
        assert (np.asarray(drawn) != image).any()
    assert run('-c', 'import torch').returncode


def test_differences_are_found(mask_rcnn, draw_images):
    """What the export checks itself with sees an object lost, moved, or of another score."""
    model, _ = mask_rcnn
    (image,) = draw_images((96, 160))
    expected = model.predict(image, score=0)

    def compare(**changed):
        total = Differences()
        total.add(expected, dataclasses.replace(expected, **changed))
        return total.problem

    assert not compare()
    assert 'missing' in compare(labels=expected.labels + 1)
    assert '0.15 pixels' in compare(boxes=expected.boxes + 0.15)
    assert 'of a score' in compare(scores=expected.scores * 0.99)
    assert 'masks' in compare(masks=~expected.masks)
    assert 'nothing was compared' in Differences().problem


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main(['export', *map(str, arguments)])
    assert done.value.code == 2
    return capsys.readouterr().err


def test_bad_input_gets_a_sentence(save_small, tmp_path, capsys, mask_rcnn):
    model, path = mask_rcnn
    checkpoint = path.with_name('checkpoint.pth')
    assert 'does not exist' in refused(capsys, tmp_path / 'none.pth')
    assert 'opset 18 or newer' in refused(capsys, checkpoint, '--opset', 11)
    assert 'ends in .onnx' in refused(capsys, checkpoint, '--out', tmp_path / 'model.xml')
    assert '--count must be at least 1' in refused(capsys, checkpoint, '--count', 0)
    with pytest.raises(InputError, match='ends in .onnx, .xml, .pt2'):
        export(model, tmp_path / 'model.trt')
    with pytest.raises(InputError, match='not Linear'):
        make_graph(torch.nn.Linear(1, 1))
    (tmp_path / 'broken.onnx').write_bytes(b'nothing')
    with pytest.raises(InputError, match='cannot be read as an exported model'):
        ExportedPredictor(tmp_path / 'broken.onnx')
    onnx.save(onnx.ModelProto(ir_version=8), tmp_path / 'other.onnx')
    with pytest.raises(InputError, match='cannot be read as an exported model'):
        ExportedPredictor(tmp_path / 'other.onnx')
    with pytest.raises(ValueError, match='TensorrtExecutionProvider'):
        infer.Model(str(path), ['TensorrtExecutionProvider'])
