"""Exported models in float16 and INT8 are smaller and find about the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import xvit_det
from xvit_det.cli.export import main
from xvit_det.cli.export_run import Differences
from xvit_det.deploy.export import export_backbone
from xvit_det.deploy.smaller import to_half, to_int8
from xvit_det.errors import InputError
from xvit_det.inference.exported import ExportedPredictor

ARCH = dict(embed_dims=64, depth=4, attn_dims=64, num_heads=4, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)


def run(path, x):
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return session.run(None, dict(images=x))


def error(found, expected):
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True))


def residual_products(path):
    """Products that add a residual at once, so that it has their dtype."""
    return [node.name for node in onnx.load(path).graph.node if node.op_type == 'Gemm']


@pytest.fixture(scope='module')
def backbone(tmp_path_factory):
    """A small fused X-ViT, which adds residuals in its products with weights, and its ONNX file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('backbone') / 'net.onnx'
    net = xvit_det.XViT(arch=ARCH).eval().fuse()
    export_backbone(net, path)
    return net, path


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.heavy
def test_float16(backbone, tmp_path):
    """Half of the size. Large inputs, whose sums over tokens would overflow in float16, stay finite."""
    net, path = backbone
    to_half(path, tmp_path / 'half.onnx')
    assert residual_products(path) and not residual_products(tmp_path / 'half.onnx')
    assert (tmp_path / 'half.onnx').stat().st_size < 0.6 * path.stat().st_size
    for x in (normal(2, 3, 160, 160), normal(1, 3, 800, 1344), 100 + normal(1, 3, 160, 160)):
        with torch.no_grad():
            expected = [value.numpy() for value in net(torch.from_numpy(x))]
        assert 1e-5 < error(run(tmp_path / 'half.onnx', x), expected) < 2e-2


@pytest.mark.heavy
def test_int8(backbone, tmp_path):
    net, path = backbone
    to_int8(path, tmp_path / 'int8.onnx', [dict(images=normal(1, 3, 160, 160, seed=i)) for i in range(4)])
    to_int8(path, tmp_path / 'narrow.onnx', [dict(images=0.1 * normal(1, 3, 160, 160))])
    assert (tmp_path / 'int8.onnx').stat().st_size < 0.45 * path.stat().st_size
    x = normal(2, 3, 192, 160, seed=9)
    with torch.no_grad():
        expected = [value.numpy() for value in net(torch.from_numpy(x))]
    found = error(run(tmp_path / 'int8.onnx', x), expected)
    assert 1e-3 < found < 0.1
    assert error(run(tmp_path / 'narrow.onnx', x), expected) > 2 * found  # ranges of too faint images
    assert not residual_products(tmp_path / 'int8.onnx')
    with pytest.raises(InputError, match='INT8 needs images'):
        to_int8(path, tmp_path / 'none.onnx', [])


@pytest.mark.heavy
def test_a_detector_in_int8_for_openvino(save_small, draw_images, tmp_path, capsys):
    pytest.importorskip('openvino', reason='openvino is not installed')
    checkpoint = save_small('retinanet_xvit_s_1x')
    images = draw_images(*[(96, 160)] * 4)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f'{i}.png')
    arguments = ['--format', 'openvino', '--dtype', 'int8', '--calibrate', tmp_path, '--images', tmp_path]
    main([str(argument) for argument in (checkpoint, *arguments)])
    assert 'predictions compared' in capsys.readouterr().out
    path = checkpoint.with_name('checkpoint_int8.xml')
    model, exported = xvit_det.load(checkpoint), ExportedPredictor(path)
    assert exported.classes == list('abc')
    total = Differences()
    for image in images:
        total.add(model.predict(image, score=0), exported.predict(image, score=0))
    assert total.objects > 20
    assert total.missing < total.objects / 2
    assert path.with_suffix('.bin').stat().st_size < 0.5 * sum(p.nbytes for p in model.model.parameters())
