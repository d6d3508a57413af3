"""Influence, weights, receptive fields and Grad-CAM against what they must be where that is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

import xvit_det
from xvit_det.analysis import feature_maps, gradcam, receptive_fields, token_maps
from xvit_det.analysis.features import View, principal_colours, view
from xvit_det.analysis.influence import ReceptiveField, jacobian_norms
from xvit_det.analysis.tokens import mixer_influence, mixer_weights
from xvit_det.datasets.shapes import ContextSpec, ensure_shapes
from xvit_det.errors import InputError
from xvit_det.inference import Predictor
from xvit_det.mixers import FourierMixer, IdentityMixer, RotaryPosition, SoftmaxAttention, XNormAttention


@pytest.fixture(scope='module')
def scene(tmp_path_factory) -> str:
    """A drawn image of 384 x 128 pixels."""
    folder = ensure_shapes(tmp_path_factory.mktemp('data') / 'scenes', ContextSpec(num_train=1, num_val=1))
    return str(folder / 'val2017' / '000000000001.png')


def untrained(name: str, scale: tuple[int, int] | None = None, **overrides: object) -> Predictor:
    """A model that has learned nothing, for images of a small scale."""
    torch.manual_seed(0)
    model = xvit_det.create_model(name, **overrides)
    if scale:
        for step in model.cfg.test_dataloader.dataset.pipeline:
            if step['type'] == 'Resize':
                step['scale'] = scale
    return Predictor(model, model.cfg, [f'class {i}' for i in range(80)])


@pytest.fixture(scope='module')
def detector() -> Predictor:
    return untrained('mask_rcnn_xvit_context')


def test_without_mixing_only_the_point_itself_counts():
    influence = mixer_influence(IdentityMixer(8), torch.randn(1, 12, 8), index=5)
    assert influence[5] > 0 and not influence[[*range(5), *range(6, 12)]].any()


def test_influence_is_the_norm_of_the_jacobian():
    torch.manual_seed(0)
    mixer, x = XNormAttention(6, attn_dims=4, num_heads=2), torch.randn(1, 5, 6)
    jacobian = torch.autograd.functional.jacobian(lambda tokens: mixer(tokens)[0, 2], x)  # (C, 1, N, C)
    exact = jacobian[:, 0].norm(dim=(0, 2))
    torch.testing.assert_close(mixer_influence(mixer, x, index=2, projections=3000), exact, rtol=0.05, atol=0)
    assert mixer_influence(mixer, x, index=2).equal(mixer_influence(mixer, x, index=2))


def test_influence_of_attention_by_position_is_its_row_of_weights():
    """With queries and keys that do not depend on the tokens, only the values do: the weights times one matrix."""
    torch.manual_seed(0)
    mixer = SoftmaxAttention(8, num_heads=1, qkv_bias=True, rotary=RotaryPosition(8))
    with torch.no_grad():
        mixer.qkv.weight[:16] = 0
        mixer.qkv.bias.normal_(std=3)
    x = torch.randn(1, 12, 8)
    weights = mixer_weights(mixer, x, index=4, size=(3, 4))
    assert weights.shape == (1, 12) and weights.std() > 0.01
    torch.testing.assert_close(weights[0], mixer.attention_map(x, size=(3, 4))[0, 0, 4])
    influence = mixer_influence(mixer, x, index=4, size=(3, 4), projections=2000)
    torch.testing.assert_close(influence / influence.sum(), weights[0])
    values = (mixer.proj.weight @ mixer.qkv.weight[16:]).norm()
    torch.testing.assert_close(influence.sum(), values, rtol=0.05, atol=0)


def test_mixers_without_weights_are_refused():
    with pytest.raises(InputError, match='FourierMixer has no weights .* these mixers have: softmax, xnorm'):
        mixer_weights(FourierMixer(8), torch.randn(1, 4, 8), index=0)


def test_convolutions_have_the_receptive_field_that_arithmetic_gives():
    """Kernels of 3 with strides 1, 2, 1 see 3, then 5, then 9 pixels."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Conv2d(a, b, 3, s, padding=1) for a, b, s in ((3, 4, 1), (4, 4, 2), (4, 4, 1))))
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    norms = jacobian_norms(layers(image)[0, :, 8, 8], image, dim=1)[0]
    seen = norms > 0
    assert seen.sum() == 81 and seen[12:21, 12:21].all()  # around pixel 16, where token 8 stands


def test_shares_of_a_receptive_field_count_pixels_by_their_distance():
    field = ReceptiveField('neck', 8, np.ones((200, 200)), (100.0, 100.0))
    assert field.share_within(50) == pytest.approx(np.pi * 50**2 / 200**2, rel=0.01)
    assert field.share_within(150) == 1


def test_receptive_fields_of_a_detector(detector, scene):
    fields = receptive_fields(detector, scene, projections=2)
    assert [(field.source, field.stride) for field in fields] == [('backbone', 8), ('neck', 8)]
    assert all(field.gradient.shape == (128, 384) and field.gradient.max() > 0 for field in fields)
    assert fields[0].centre == (196, 68)
    # Without attention and with its convolutions only, nothing comes from the ends of the image.
    (near, _) = receptive_fields(untrained('mask_rcnn_xvit_context', backbone=dict(mixer='identity')), scene, 2)
    assert not near.gradient[:, :30].any() and fields[0].gradient[:, :30].any()


def test_maps_of_backbone_and_neck(detector, scene):
    maps = feature_maps(detector, scene)
    assert [(known.source, known.map.shape) for known in maps] == [
        ('backbone', (1, 128, 16, 48)),
        ('neck', (1, 64, 16, 48)),
    ]


def test_colours_are_principal_components():
    """A map that varies along one direction only is grey in red, and the same in any rotation of the channels."""
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 60).reshape(1, 6, 10)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8))
    x = (rotation @ torch.cat((ramp, 0.3 * torch.rand(7, 6, 10))).flatten(1)).reshape(8, 6, 10)
    colours = principal_colours(x)
    assert colours.shape == (6, 10, 3) and colours.min() == 0 and colours.max() == 1
    assert abs(np.corrcoef(colours[..., 0].ravel(), ramp.flatten())[0, 1]) > 0.9
    assert principal_colours(torch.rand(2, 4, 4)).shape == (4, 4, 3)


def test_token_maps_of_a_detector(detector, scene):
    maps = token_maps(detector, scene, point=(383, 127))
    assert [(known.block, known.what) for known in maps] == [
        (f'blocks.{i}', what) for i in range(4) for what in ('influence', 'weights')
    ]
    assert all(known.values.shape == (8, 24) and known.at_point == (7, 23) for known in maps)
    assert min(known.values.min() for known in maps if known.what == 'weights') < 0
    one = token_maps(detector, scene, point=(383, 127), block=2)
    assert [known.what for known in one] == ['influence', 'weights', *(f'head {i}' for i in range(4))]
    np.testing.assert_allclose(one[1].values, np.mean([known.values for known in one[2:]], axis=0), rtol=1e-5)
    np.testing.assert_array_equal(one[0].values, maps[4].values)


def test_token_maps_of_classifiers(scene):
    """X-ViT's class attention; and a class token among the tokens, which is not part of the map."""
    *_, last = token_maps(untrained('xvit_t_in1k', backbone=dict(arch=SMALL)), scene)
    assert (last.block, last.what, last.values.shape) == ('class_blocks.0', 'class token', (14, 14))
    maps = token_maps(untrained('hybrid_vil_cifar10'), np.zeros((32, 32, 3), np.uint8), block=0)
    assert [known.what for known in maps] == ['influence']


SMALL = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)


def test_gradcam_of_a_linear_head_is_its_weighted_sum():
    """With a mean over the map and a linear layer, α of both methods is the class's weight over h·w (CAM)."""
    head = dict(type='LinearClsHead', num_classes=10, in_channels=32)
    backbone = dict(type='XViT', out_type='featmap', arch=SMALL, patch_size=8)
    predictor = untrained('vin_cifar10')
    model = dict(type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'), head=head)
    preprocessor = predictor.cfg.model.data_preprocessor
    predictor.model = MODELS.build(dict(**model, data_preprocessor=preprocessor, _scope_='mmpretrain')).eval()
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    (known,) = feature_maps(predictor, image)
    prediction = predictor.predict(image)
    weights = predictor.model.head.fc.weight[prediction.labels[1]]
    cam = (weights[:, None, None] * known.map[0] / 16).sum(dim=0).relu()
    expected = F.interpolate(cam[None, None], size=(32, 32), mode='bilinear')[0, 0].detach().numpy()
    found = gradcam(predictor, image, 1)
    np.testing.assert_allclose(found.gradcam, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.hirescam, expected, rtol=1e-4, atol=1e-7)
    assert expected.max() > 0 and (found.name, found.box) == (prediction.names[1], None)


def test_most_of_a_detections_evidence_is_in_its_box(detector, scene):
    """By construction: a two-stage detector pools its score from the box. A mean over the map loses the place."""
    rng, shares = np.random.default_rng(0), []
    for number in range(5):
        found = gradcam(detector, scene, number, score=0)
        x1, y1, x2, y2 = found.box
        x, y = rng.uniform(0, 384 - (x2 - x1)), rng.uniform(0, 128 - (y2 - y1))
        other = np.array([x, y, x + x2 - x1, y + y2 - y1])
        shares.append([found.share_inside(found.hirescam, box) for box in (None, other)])
    inside, elsewhere = np.mean(shares, axis=0)
    assert inside > 0.5 > elsewhere


@pytest.mark.parametrize(
    'name, strides, scores',
    [
        ('mask_rcnn_xvit_t_3x', (4, 8, 16, 32), 'rcnn'),
        ('retinanet_xvit_s_1x', (8, 16, 32), 'score_thr'),
        pytest.param('dino_xvit_s_12e', (8, 16, 32), None, marks=pytest.mark.heavy),
    ],
)
def test_gradients_pass_through_detectors(name, strides, scores, scene):
    overrides: dict = dict(backbone=dict(arch=SMALL), neck=dict(in_channels=[32] * len(strides)))
    if scores:
        overrides['test_cfg'] = dict(rcnn=dict(score_thr=0.0)) if scores == 'rcnn' else dict(score_thr=0.0)
    else:
        overrides['num_queries'] = 20
    predictor = untrained(name, (192, 64), **overrides)
    found = gradcam(predictor, scene, 0, score=0)
    assert found.gradcam.shape == found.hirescam.shape == (64, 192) and found.size == (128, 384)
    assert found.hirescam.max() > 0 and found.box.shape == (4,)


def test_the_class_token_of_the_last_block_has_a_gradient_before_it(scene):
    """Tokens of the last block that nothing reads get none: the block before it is taken."""
    found = gradcam(untrained('hybrid_vil_cifar10'), np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    assert found.gradcam.shape == (32, 32) and found.hirescam.max() > 0


def test_scores_without_a_gradient_are_refused(detector, scene, monkeypatch):
    head = detector.model.roi_head
    monkeypatch.setattr(head, 'predict', torch.no_grad()(head.predict))
    with pytest.raises(InputError, match='MaskRCNN computes its scores without a gradient'):
        gradcam(detector, scene, score=0)


def test_positions_are_those_of_the_image(scene):
    """Also where the model sees it larger and padded."""
    seen = view(untrained('mask_rcnn_xvit_t_3x', (600, 200), backbone=dict(arch=SMALL), neck=NECK), scene)
    assert seen.pixels.shape == (200, 600, 3) and seen.size == (128, 384)
    assert seen.batch['inputs'].shape == (1, 3, 224, 608) and seen.stride((14, 38)) == 16
    assert seen.token_at((383.9, 127.9), (14, 38)) == (12, 37) and seen.token_at((0, 0), (14, 38)) == (0, 0)


def test_maps_of_odd_images_have_their_strides():
    """A map whose last token covers a part only reaches beyond the image; one that rounds down ends before it."""
    seen = View(np.zeros((100, 97, 3), np.uint8), (100, 97), dict(inputs=torch.zeros(1, 3, 100, 97)))
    assert [seen.stride(size) for size in ((25, 25), (13, 13), (7, 7), (4, 4), (3, 3))] == [4, 8, 16, 32, 32]
    assert seen.covered_size((4, 4)) == (128, 128) and seen.covered_size((3, 3)) == (96, 96)
    assert seen.token_at((96.5, 99.5), (4, 4)) == (3, 3) and seen.token_at((96.5, 99.5), (3, 3)) == (2, 2)
    assert seen._replace(batch=dict(inputs=torch.zeros(1, 3, 224, 224))).stride((16, 16)) == 14


NECK = dict(in_channels=[32] * 4)


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda m, i: token_maps(m, i, point=(384, 3)), 'point 384, 3 is not inside the image of 384 x 128 pixels'),
        (lambda m, i: token_maps(m, i, block=4), 'block 4 is not one of 0 to 3'),
        (lambda m, i: token_maps(m, i, block=-1), 'block -1 is not one of 0 to 3'),
        (lambda m, i: gradcam(m, i, 1000, score=0), r'detection 1000 is not one of 0 to \d+'),
        (lambda m, i: gradcam(m, i, score=1), 'nothing with a score of at least 1 was found'),
        (lambda m, i: feature_maps(m, __file__), 'cannot be read as an image: it is of no image format'),
    ],
)
def test_wrong_input(call, message, detector, scene):
    with pytest.raises(InputError, match=message):
        call(detector, scene)


def test_a_model_in_training_mode_is_looked_at_as_it_predicts(detector, scene):
    before = feature_maps(detector, scene)
    detector.model.train()
    for known, again in zip(before, feature_maps(detector, scene), strict=True):
        assert torch.equal(known.map, again.map)
    assert not detector.model.training
