"""fuse() of whole detectors, segmentors and classifiers, in float32 and bfloat16."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from mmdet.structures import DetDataSample
from torch import nn

import xvit_det
from xvit_det import InputError
from xvit_det.deploy import fuse
from xvit_det.kernels import bfloat16_trial, winograd
from xvit_det.kernels.onednn import OneDNNLinear
from xvit_det.kernels.winograd import WinogradConv2d, is_suited

# Parts that compute in bfloat16.
DETECTORS = {
    'mask_rcnn_xvit_s_3x': {'backbone', 'neck', 'rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head'},
    'faster_rcnn_xvit_s_1x': {'backbone', 'neck', 'rpn_head', 'roi_head.bbox_head'},
    'retinanet_xvit_s_1x': {'backbone', 'neck', 'bbox_head'},
    'dino_xvit_s_12e': {'backbone', 'neck'},
}
every_detector = pytest.mark.parametrize('name', DETECTORS)


@pytest.fixture
def detect(draw_images):
    """``detect(model)``: its objects in a padded batch of two images."""

    @torch.no_grad()
    def run(model):
        images = [torch.from_numpy(image).permute(2, 0, 1) for image in draw_images((96, 128), (75, 101))]
        metas = [dict(img_shape=tuple(x.shape[1:]), ori_shape=tuple(x.shape[1:]), scale_factor=(1, 1)) for x in images]
        samples = [DetDataSample(metainfo=meta) for meta in metas]
        return [sample.pred_instances for sample in model.test_step(dict(inputs=images, data_samples=samples))]

    return run


def parts(model):
    """Parts of a detector that have weights, and the dtypes of these."""
    for name, part in model.named_children():
        for inner, module in part.named_children() if name == 'roi_head' else [('', part)]:
            if dtypes := {parameter.dtype for parameter in module.parameters()}:
                yield f'{name}.{inner}'.rstrip('.'), dtypes


@every_detector
@pytest.mark.parametrize(('channels_last', 'convolutions'), [(True, 'winograd'), (False, 'winograd'), (True, 'torch')])
def test_float32_finds_the_same(name, channels_last, convolutions, small_detector, detect, monkeypatch):
    monkeypatch.setenv(winograd.VARIABLE, convolutions)
    monkeypatch.setattr(winograd, 'MIN_CHANNELS', 8)
    model = small_detector(name)
    fused = copy.deepcopy(model)
    assert fuse(fused, channels_last=channels_last) is fused
    for a, b in zip(detect(model), detect(fused), strict=True):
        assert len(a) == len(b) > 3 and torch.equal(a.labels, b.labels)
        torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=0, atol=1e-2)
        if 'masks' in a:
            assert (a.masks == b.masks).float().mean() > 0.999


@every_detector
def test_what_changes_outside_the_backbone(name, small_detector, monkeypatch):
    monkeypatch.setattr(winograd, 'MIN_CHANNELS', 8)
    model = small_detector(name)
    fused = fuse(copy.deepcopy(model))
    outside = {key for key in model.state_dict() if not key.startswith('backbone.')}
    assert outside == {key for key in fused.state_dict() if not key.startswith('backbone.')}
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    own = set(fused.backbone.modules())
    others = [module for module in fused.modules() if module not in own]
    assert any(isinstance(module, OneDNNLinear) for module in others) == any(
        type(module) is nn.Linear for name, module in model.named_modules() if not name.startswith('backbone')
    )
    assert not any(type(module) is nn.Linear or is_suited(module) for module in others)
    assert any(type(module) is WinogradConv2d for module in others) == ('dino' not in name)  # its neck has 1 x 1 only
    kernels = [module.weight for module in others if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    again = fuse(copy.deepcopy(fused))
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), fused.state_dict().values(), strict=True))


@every_detector
def test_bfloat16_finds_nearly_the_same(name, small_detector, detect):
    model = small_detector(name)
    low = fuse(copy.deepcopy(model), dtype=torch.bfloat16)
    dtypes = dict(parts(low))
    assert {part for part, kinds in dtypes.items() if kinds == {torch.bfloat16}} == DETECTORS[name]
    assert all(kinds == {torch.float32} for part, kinds in dtypes.items() if part not in DETECTORS[name])
    with torch.no_grad():
        image = torch.randn(1, 3, 96, 128)
        for a, b in zip(model.extract_feat(image), low.extract_feat(image), strict=True):
            assert 1e-4 < (a - b).norm() / a.norm() < 0.05
    expected, found = detect(model), detect(low)
    for a, b in zip(expected, found, strict=True):
        assert b.bboxes.dtype == b.scores.dtype == torch.float32
        assert not torch.equal(a.scores, b.scores)
        if 'dino' not in name:  # whose random weights turn small differences into others
            torch.testing.assert_close(a.scores[:3], b.scores[:3], rtol=0.05, atol=0)
    copies = fuse(copy.deepcopy(low), dtype=torch.bfloat16), pickle.loads(pickle.dumps(low.neck))
    for a, b in zip(found, detect(copies[0]), strict=True):
        assert torch.equal(a.bboxes, b.bboxes)
    maps = model.backbone(image)
    assert all(torch.equal(a, b) for a, b in zip(low.neck(maps), copies[1](maps), strict=True))


@torch.no_grad()
def test_layers_that_compute_something_else_stay_as_they_are():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = xvit_det.XViT(arch='tiny', out_type='featmap', out_indices=-1)
            self.conv = ConvWS2d(192, 8, 3)  # calls weight.view
            self.fc = nn.utils.weight_norm(nn.Linear(8, 4))  # a hook computes its weight

        def forward(self, x):
            return self.fc(self.conv(self.backbone(x)[-1]).mean((2, 3)))

    model, image = Model().eval(), torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(fuse(copy.deepcopy(model))(image), model(image), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_shared_layers_stay_shared():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = xvit_det.XViT(arch='tiny', out_type='featmap', out_indices=-1)
            conv, fc = nn.Conv2d(192, 192, 3, padding=1), nn.Linear(192, 192)
            self.first, self.second, self.again = nn.Sequential(conv), nn.Sequential(conv, fc), fc
            self.conv = self.same = conv

    model = fuse(Model().eval())
    assert type(model.conv) is WinogradConv2d and type(model.again) is OneDNNLinear
    assert model.first[0] is model.second[0] is model.conv is model.same and model.second[1] is model.again


def test_bfloat16_after_its_backbone(small_detector, detect):
    model = small_detector('retinanet_xvit_s_1x')
    at_once = fuse(copy.deepcopy(model), dtype=torch.bfloat16)
    fuse(model.backbone, dtype=torch.bfloat16)
    fuse(model, dtype=torch.bfloat16)
    assert dict(parts(model)) == dict(parts(at_once))
    for a, b in zip(detect(model), detect(at_once), strict=True):
        assert torch.equal(a.bboxes, b.bboxes)


@pytest.mark.parametrize(('faster', 'dtype'), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_follows_the_trial(monkeypatch, faster, dtype):
    monkeypatch.setattr(bfloat16_trial, 'is_faster', lambda: faster)
    backbone = xvit_det.XViT(arch='tiny', out_type='featmap', out_indices=-1).eval()
    with torch.no_grad():
        image = torch.rand(1, 3, 64, 64)
        (expected,) = backbone(image)
        (found,) = fuse(backbone, dtype='auto')(image)
    assert found.dtype == torch.float32 and {weight.dtype for weight in backbone.parameters()} == {dtype}
    error = (found - expected).norm() / expected.norm()
    assert error < 1e-5 if dtype == torch.float32 else 1e-4 < error < 0.05


def test_trial(monkeypatch):
    """It measures once for each number of threads, leaves the random state alone, and tells a slow type."""
    bfloat16_trial.speedup.cache_clear()
    state = torch.get_rng_state()
    ratio = bfloat16_trial.speedup(1)
    assert ratio > 0 and bfloat16_trial.speedup(1) == ratio and bfloat16_trial.speedup.cache_info().misses == 1
    assert torch.equal(torch.get_rng_state(), state)
    bfloat16_trial.speedup.cache_clear()
    convolve = torch.nn.functional.conv2d

    def slow(x, *args, **kwargs):
        return [convolve(x, *args, **kwargs) for _ in range(30 if x.dtype == torch.bfloat16 else 1)][0]

    monkeypatch.setattr(bfloat16_trial.F, 'conv2d', slow)
    assert bfloat16_trial.speedup(1) < ratio
    bfloat16_trial.speedup.cache_clear()


@pytest.mark.parametrize('name', ['semantic_fpn_xvit_shapes', 'vin_cifar10'])
@torch.no_grad()
def test_other_heads_stay_in_float32(name):
    model = xvit_det.create_model(name).eval()
    low = fuse(copy.deepcopy(model), dtype=torch.bfloat16)
    image = torch.rand(2, 3, 64, 64)
    a, b = model(image, mode='tensor'), low(image, mode='tensor')
    a, b = (x[-1] if isinstance(x, tuple) else x for x in (a, b))
    assert b.dtype == torch.float32 and 1e-5 < (a - b).norm() / a.norm() < 0.1
    assert {weight.dtype for weight in low.backbone.parameters()} == {torch.bfloat16}


def test_wrong_arguments(monkeypatch):
    backbone = xvit_det.XViT(arch='tiny').eval()
    with pytest.raises(InputError, match=r"dtype is torch.float16, .* one of 'auto', torch.float32, torch.bfloat16"):
        fuse(backbone, dtype=torch.float16)
    assert not backbone.is_fused
    with pytest.raises(InputError, match='bfloat16 needs a model with a part named backbone, which Sequential lacks'):
        fuse(nn.Sequential(backbone), dtype=torch.bfloat16)
    assert not backbone.is_fused
    monkeypatch.setattr(bfloat16_trial, 'is_faster', lambda: True)
    assert next(fuse(nn.Sequential(backbone), dtype='auto').parameters()).dtype == torch.float32
