"""New mixers learn the old ones' outputs, and nothing else changes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xvit_det import CvX, InputError, LeViX, ViX, XViT
from xvit_det.backbones import Backbone
from xvit_det.datasets.shapes import ContextSpec, ensure_shapes, image_folder
from xvit_det.engine.linearize import STARTS, Linearization, find_mixers, relative_error, take_weights

ARCH = dict(embed_dims=32, depth=4, attn_dims=32, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)
PAIRS = [
    ('xca', 'xnorm'),
    ('xca', dict(type='xnorm', attn_dims=16)),
    ('softmax', 'xnorm'),
    ('softmax', 'performer'),
    ('softmax', dict(type='nystrom', landmarks=16)),
    ('xnorm', 'xca'),
]


def xvit(mixer: Any, **options: Any) -> Backbone:
    return XViT(arch=ARCH, mixer=mixer, **options)


def vix(mixer: Any, **options: Any) -> Backbone:
    arch = dict(embed_dims=(32,), depths=(2,), num_heads=(2,), head_dims=16, hidden_dims=(64,), pyramid_indices=(0, 1))
    return ViX(arch=dict(arch, init_std=0.02), mixer=mixer, img_size=96, out_type='featmap', **options)


def trained(backbone: Backbone) -> Backbone:
    """A backbone in whose weights no number is one that a new backbone has."""
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, 0.1, 0.2)
    for name, buffer in backbone.named_buffers():
        if 'running' in name:
            buffer.uniform_(0.5, 1.5)
    return backbone


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Tensor:
    """Eight drawn scenes (8, 3, H, W)."""
    import cv2

    folder = ensure_shapes(tmp_path_factory.mktemp('scenes') / 'drawn', ContextSpec(8, 1))
    images = [cv2.imread(str(path)) for path in sorted((folder / image_folder('train')).iterdir())]
    return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]).float() / 64 - 2


def fit(model: Linearization, images: Tensor, steps: int, batch: int = 4) -> list[float]:
    """Train as the command does, on a few images at a time; the mean errors."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    model.train()
    losses = []
    for step in range(steps):
        chosen = images.roll(-batch * step, 0)[:batch]
        loss = model(chosen)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize('build', [xvit, vix])
@pytest.mark.parametrize(('old', 'new'), PAIRS)
def test_loss_falls_and_only_mixers_change(build, old, new, scenes):
    torch.manual_seed(0)
    teacher, student = trained(build(old)), build(new)
    before = copies(teacher)
    losses = fit(Linearization(teacher, student), scenes, steps=20)
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert all(torch.equal(before[name], weight) for name, weight in teacher.state_dict().items())
    mixers = tuple(name for name, module in student.named_modules() if module in find_mixers(student).values())
    for name, weight in student.state_dict().items():
        assert name.startswith(mixers) or torch.equal(weight, before[name]), name


@pytest.mark.parametrize('mixer', ['xca', 'xnorm', 'softmax', 'performer', 'nystrom'])
def test_the_same_mixer_has_nothing_to_learn(mixer, scenes):
    mixer = dict(type='nystrom', landmarks=16) if mixer == 'nystrom' else mixer
    model = Linearization(trained(xvit(mixer)), xvit(mixer), block_steps=1).train()
    for step in range(2):  # one by block, one by map
        losses = model(scenes[:2])
        assert all(loss == 0 for loss in losses.values()), losses
        assert {name.split('.')[0] for name in losses} == {'loss', ('blocks', 'maps')[step]}


def test_random_mixers_are_worse_than_those_that_learned(scenes):
    torch.manual_seed(0)
    teacher, student = trained(xvit('xca')), xvit('xnorm')
    model = Linearization(teacher, student)
    fit(model, scenes, steps=40)
    with torch.no_grad():
        learned = torch.stack([*model.map_errors(scenes).values()]).mean()
        for mixer in find_mixers(student).values():
            for parameter in mixer.parameters():
                nn.init.normal_(parameter, 0.1, 0.2)  # as the teacher's
        broken = torch.stack([*model.map_errors(scenes).values()]).mean()
    assert learned < 0.5 * broken


def test_maps_are_learned(scenes):
    torch.manual_seed(0)
    model = Linearization(trained(xvit('softmax')), xvit('xnorm'), block_steps=0)
    losses = fit(model, scenes, steps=20)
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert set(model(scenes[:1])) == {'loss', 'maps.0', 'maps.1', 'maps.2', 'maps.3'}


def test_padding_does_not_count(scenes):
    """The errors of a padded batch are those of its images by themselves, whatever stands in the padding."""
    torch.manual_seed(0)
    model = Linearization(trained(xvit('xca', mask_padding=True)), xvit('xnorm', mask_padding=True)).eval()
    image = scenes[:1, :, :128, :128]
    padded = nn.functional.pad(image, (0, 64, 0, 32))
    for errors in (model.block_errors, model.map_errors):
        alone, with_padding = errors(image), errors(padded)
        assert all(with_padding[name].item() == pytest.approx(error.item(), rel=1e-4) for name, error in alone.items())
    target, valid = torch.randn(2, 9, 4), torch.rand(2, 9) > 0.4
    output = target + 0.1
    expected = relative_error(output, target, valid)
    output[~valid], target[~valid] = 1e6, -1e6
    assert relative_error(output, target, valid) == expected


def test_relative_error_of_the_mean_is_one():
    target = torch.randn(3, 50, 8) * torch.arange(1, 9) + 5
    assert relative_error(target.mean((0, 1)).expand_as(target), target).item() == pytest.approx(1, abs=1e-5)
    assert relative_error(target.half() + 0.5, target).dtype == torch.float32
    assert relative_error(torch.zeros_like(target), torch.zeros_like(target)) == 0  # no division by zero


@pytest.mark.parametrize('start', STARTS)
def test_a_random_start_takes_all_but_the_mixers(start):
    torch.manual_seed(0)
    teacher, student = trained(xvit('xca')), xvit('xca')
    before = copies(student)
    take_weights(student, teacher, start)
    for name, weight in student.state_dict().items():
        source = before if '.attn.' in name and start == 'random' else teacher.state_dict()
        assert torch.equal(weight, source[name]), name


def test_frozen_blocks_are_linearized_too(scenes):
    model = Linearization(trained(xvit('xca')), xvit('xnorm', frozen_stages=4)).train()
    model(scenes[:1])['loss'].backward()
    assert all(p.grad is not None for mixer in find_mixers(model.student).values() for p in mixer.parameters())


@pytest.mark.parametrize('family', [LeViX, CvX])
def test_families_with_their_own_attention(family, scenes):
    arch = next(iter(family.arch_zoo))
    teacher, student = (family(arch=arch, mixer=mixer, img_size=64, out_type='featmap') for mixer in PAIRS[2])
    model = Linearization(teacher, student)
    assert all(error.isfinite() for error in model.train()(scenes[:2, :, :64, :64]).values())


def test_wrong_input_is_one_sentence():
    with pytest.raises(InputError, match="start 'zero' is not one of teacher, random"):
        Linearization(xvit('xca'), xvit('xnorm'), start='zero')
    with pytest.raises(InputError, match='this XViT is fused'):
        Linearization(xvit('xca').eval().fuse(), xvit('xnorm'))
    with pytest.raises(InputError, match='the mixer FourierMixer has no weights to train'):
        Linearization(xvit('xca'), xvit('fourier'))
    with pytest.raises(InputError, match='differ in more than their mixers: 1 weights, such as blocks.0.mlp'):
        other = xvit('xnorm')
        other.blocks[0].mlp[0].bias = nn.Parameter(torch.zeros(3))
        Linearization(xvit('xca'), other)
    with pytest.raises(InputError, match='the teacher has mixers in blocks.0'):
        Linearization(xvit('xca'), XViT(arch=dict(ARCH, depth=5), mixer='xnorm', out_indices=(0, 1, 2, 4)))
