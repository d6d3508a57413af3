"""torchvision's detectors around our backbones: training, inference, weights, and what is refused."""

import inspect

import pytest
import torch
import torchvision
from torch import nn
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.transforms import v2

from xvit_det import InputError, ViX, XViT
from xvit_det.deploy import fuse
from xvit_det.interop.torchvision import faster_rcnn, fcos, mask_rcnn, retinanet

ARCH = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)
ONE_STAGE = dict(embed_dims=(16,), depths=(4,), num_heads=(2,), hidden_dims=(32,), head_dims=8)
DETECTORS = {faster_rcnn: FasterRCNN, mask_rcnn: MaskRCNN, retinanet: RetinaNet, fcos: FCOS}
STRIDES = {faster_rcnn: (4, 8, 16, 32), mask_rcnn: (4, 8, 16, 32), retinanet: (8, 16, 32), fcos: (8, 16, 32)}
SMALL = dict(num_classes=4, out_channels=32, min_size=96, max_size=160)

every_detector = pytest.mark.parametrize('build', DETECTORS, ids=lambda build: build.__name__)


def small(build, **options) -> nn.Module:
    torch.manual_seed(0)
    return build(XViT(arch=ARCH, out_strides=STRIDES[build], mask_padding=True), **{**SMALL, **options})


def batch() -> tuple[list[torch.Tensor], list[dict]]:
    """Two images of different sizes, each with a bright square."""
    torch.manual_seed(1)
    images = [0.2 * torch.rand(3, 96, 128), 0.2 * torch.rand(3, 112, 97)]
    targets = []
    for image in images:
        image[:, 20:70, 30:80] += 0.8
        mask = (image[:1] > 0.5).to(torch.uint8)
        targets.append(dict(boxes=torch.tensor([[30.0, 20, 80, 70]]), labels=torch.tensor([2]), masks=mask))
    return images, targets


@every_detector
def test_trains_and_detects_as_torchvisions_own(build):
    model = small(build)
    assert type(model) is DETECTORS[build]
    images, targets = batch()
    losses = model(images, targets)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    found = model.eval()(images)
    keys = {'boxes', 'labels', 'scores'} | ({'masks'} if build is mask_rcnn else set())
    assert [set(one) for one in found] == [keys, keys]
    if build is mask_rcnn:
        assert all(one['masks'].shape[1:] == (1, *image.shape[1:]) for one, image in zip(found, images, strict=True))


@every_detector
def test_the_maps_are_those_that_torchvisions_anchors_are_for(build):
    model = small(build).eval()
    maps = model.backbone(torch.zeros(1, 3, 128, 256))
    strides = [256 // x.shape[-1] for x in maps.values()]
    assert strides == ([4, 8, 16, 32, 64] if build in (faster_rcnn, mask_rcnn) else [8, 16, 32, 64, 128])
    assert {x.shape[1] for x in maps.values()} == {model.backbone.out_channels} == {32}
    anchors = model.rpn.anchor_generator if build in (faster_rcnn, mask_rcnn) else model.anchor_generator
    assert len(anchors.sizes) == len(maps)
    assert list(maps)[-1] == ('pool' if build in (faster_rcnn, mask_rcnn) else 'p7')


@every_detector
def test_a_state_dict_gives_the_same_detections(build, tmp_path):
    images, _ = batch()
    options = dict(score_thresh=0.0) if build in (retinanet, fcos) else dict(box_score_thresh=0.0)
    first, second = small(build, **options), small(build, **options)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    torch.save(first.state_dict(), tmp_path / 'detector.pth')
    second.load_state_dict(torch.load(tmp_path / 'detector.pth'))
    for ours, theirs in zip(first.eval()(images), second.eval()(images), strict=True):
        assert len(ours['boxes']) > 0
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@every_detector
def test_sizes_by_name(build):
    with torch.device('meta'):
        model = build('xvit_b')
    assert model.backbone.body.embed_dims == 512 and model.backbone.body.out_strides == STRIDES[build]
    assert model.backbone.out_channels == 256
    default = {faster_rcnn: 'roi_heads.box_predictor.cls_score', mask_rcnn: 'roi_heads.box_predictor.cls_score'}
    head = model.get_submodule(default.get(build, 'head.classification_head.cls_logits'))
    anchors = 9 if build is retinanet else 1
    assert (head.out_features if isinstance(head, nn.Linear) else head.out_channels) == 91 * anchors


def test_all_four_take_the_same_arguments():
    first, *others = (inspect.signature(build).parameters for build in DETECTORS)
    assert all(list(other) == list(first) for other in others)


def test_another_family_and_norms_in_the_feature_pyramid_network():
    backbone = ViX(arch=dict(ONE_STAGE, pyramid_indices=(0, 1, 2, 3), init_std=0.5), mixer='performer')
    model = faster_rcnn(backbone, **SMALL, norm_layer=nn.BatchNorm2d)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.backbone.fpn.modules()) == 8
    images, targets = batch()
    assert all(loss.isfinite() for loss in model(images, targets).values())


@torch.no_grad()
def test_maps_of_an_image_do_not_depend_on_its_batch():
    model = small(faster_rcnn).eval()
    (image, other), _ = batch()
    image, other = image[:, :90, :96], other[:, :96, :96]
    alone = model.backbone.body(model.transform([image])[0].tensors)
    batched = model.backbone.body(model.transform([image, torch.cat([other, other], dim=2)])[0].tensors)
    for one, both in zip(alone, batched, strict=True):
        torch.testing.assert_close(one, both[:1, :, : one.shape[2], : one.shape[3]], rtol=1e-4, atol=1e-5)


def test_weights_of_a_classifier_and_frozen_blocks(tmp_path):
    classifier = XViT(arch=ARCH, out_type='cls_token')
    weights = {f'backbone.{name}': weight for name, weight in classifier.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'classifier.pth')
    model = small(retinanet, weights_backbone=tmp_path / 'classifier.pth', trainable_backbone_layers=1).train()
    body = model.backbone.body
    assert torch.equal(body.blocks[2].mlp[0].weight, classifier.blocks[2].mlp[0].weight)
    trained = {name.split('.')[0] + name.split('.')[1] for name, p in body.named_parameters() if p.requires_grad}
    assert trained == {'blocks3', 'pyramidlevels'}
    assert not body.stem.training and body.blocks[3].training
    body = XViT(arch=ARCH, out_strides=(8, 16, 32), frozen_stages=4)
    frozen = retinanet(body, num_classes=2, trainable_backbone_layers=5)
    assert all(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in small(retinanet, trainable_backbone_layers=5).parameters())
    assert not any(p.requires_grad for p in small(fcos, trainable_backbone_layers=0).backbone.body.blocks.parameters())


@torch.no_grad()
def test_a_detector_can_be_fused():
    images, _ = batch()
    model = small(mask_rcnn, box_score_thresh=0.0).eval()
    (before, *_), (after, *_) = model(images), fuse(model)(images)
    torch.testing.assert_close(after['scores'], before['scores'], rtol=1e-3, atol=1e-4)


@every_detector
@pytest.mark.parametrize(
    ('backbone', 'options', 'message'),
    [
        ('xvit_xl', {}, "backbone 'xvit_xl' is not one of xvit_t, xvit_s, xvit_m, xvit_b, nor a backbone object"),
        ('resnet50', {}, "backbone 'resnet50' is not one of xvit_t"),
        (
            torchvision.models.resnet18,
            {},
            'needs a backbone of xvit_det with .*, not ResNet, which has no pyramid',
        ),
        (lambda: XViT(arch=ARCH, out_type='featmap'), {}, r'out_strides=\((4, )?8, 16, 32\), not \(16,\)'),
        (lambda: XViT(arch=ARCH, out_type='cls_token'), {}, 'not XViT, which has no pyramid'),
        (lambda: XViT(arch=ARCH, out_strides=(16, 32)), {}, r'not \(16, 32\)'),
        ('xvit_t', dict(num_classes=1), 'num_classes=1 is not at least 2: torchvision counts the background'),
        ('xvit_t', dict(num_classes='3'), "num_classes='3' is not at least 2"),
        ('xvit_t', dict(weights='DEFAULT'), 'no published weights; weights_backbone takes'),
        (
            'xvit_t',
            dict(trainable_backbone_layers=26),
            '=26 is not a number of blocks from 0 to 24, or 25',
        ),
        ('xvit_t', dict(trainable_backbone_layers=-1), 'trainable_backbone_layers=-1 is not a number of blocks'),
        ('xvit_t', dict(trainable_backbone_layers='3'), "trainable_backbone_layers='3' is not a number"),
        ('xvit_t', dict(weights_backbone='nowhere.pth'), 'checkpoint nowhere.pth does not exist'),
    ],
)
def test_wrong_values(build, backbone, options, message):
    with pytest.raises(InputError, match=message):
        build(backbone() if callable(backbone) else backbone, **options)


@every_detector
def test_a_step_on_photographs_lowers_the_loss(build, coco_tiny):
    data = CocoDetection(
        coco_tiny / 'train2017',
        coco_tiny / 'annotations' / 'instances_train2017.json',
        transforms=v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
    )
    data = wrap_dataset_for_transforms_v2(data, target_keys=('boxes', 'labels', 'masks'))
    images, targets = zip(*(data[i] for i in range(2)), strict=True)
    model = small(build, num_classes=91)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)  # the same samples of anchors and proposals
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


def test_no_classes_need_a_predictor():
    with pytest.raises(InputError, match='num_classes=None needs a box_predictor'):
        faster_rcnn('xvit_t', num_classes=None)
