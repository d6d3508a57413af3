"""Fused models against the unfused ones, with weights and statistics that are far from neutral."""

import copy
import pickle
import warnings

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from xvit_det import InputError
from xvit_det.backbones import Backbone, load_pretrained
from xvit_det.benchmark.steps import compiler_problem
from xvit_det.deploy import fuse
from xvit_det.layers import LocalPatchInteraction

_XVIT = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=2, layer_scale=1.0)
_XCIT = dict(class_block='xcit', tokens_norm=True, ceil_pool=False)
_ONE = dict(embed_dims=(16,), depths=(4,), num_heads=(2,), hidden_dims=(32,), head_dims=8, pyramid_indices=(0, 1, 2, 3))
_TWO = dict(_ONE, embed_dims=(16, 32), depths=(2, 2), num_heads=(2, 4), hidden_dims=(32, 64))
_TOKENIZER = dict(tokenizer_widths=(8,), tokenizer_kernel=3, pool_stride=2)
_LEVIX = dict(type='LeViX', arch=dict(_TWO, pre_norm=True))
CASES = {
    'XViT': dict(type='XViT', arch=_XVIT, drop_path_rate=0.1),
    'XViT values axis, no gamma, no position': dict(type='XViT', arch=_XVIT, kv_axis=-1, gamma=None, position=False),
    'XViT group norm': dict(type='XViT', arch=_XVIT, norm_cfg=dict(type='GN', num_groups=2)),
    'XViT xca': dict(type='XViT', arch=dict(_XVIT, **_XCIT), mixer='xca', drop_path_rate=0.1),
    'XViT softmax': dict(type='XViT', arch=_XVIT, mixer='softmax', patch_size=8),
    'ViX xnorm': dict(type='ViX', arch=dict(_ONE, init_std=0.5), mixer='xnorm', stem='deep_conv'),
    'LeViX softmax': dict(_LEVIX, mixer='softmax'),
    'LeViX performer': dict(_LEVIX, mixer='performer'),
    'CCX': dict(type='CCX', arch=dict(_ONE, **_TOKENIZER), mixer=dict(type='linformer', projected=8)),
    'CvX': dict(type='CvX', arch=dict(_TWO, kernels=(7, 3), later_stride=2), mixer='softmax', patch_size=8),
    'PiX': dict(type='PiX', arch=dict(_TWO, init_std=0.5), mixer='fourier', patch_size=16),
}
OUT_TYPES = ('pyramid', 'featmap', 'cls_token', 'avg_featmap')
every_case = pytest.mark.parametrize('name', CASES)


def scramble(model: nn.Module) -> nn.Module:
    """Weights of norms, biases, gammas, affines and statistics far from their initial values."""
    for name, parameter in model.named_parameters():
        if parameter.ndim <= 1 or '.gamma_' in name or 'temperature' in name:
            nn.init.normal_(parameter, 0.3, 0.5)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.2, 3)
    return model.eval()


def build(name: str = 'XViT', seed: int = 0, **options) -> Backbone:
    torch.manual_seed(seed)
    return scramble(MODELS.build(dict(CASES[name], **options)))


def assert_same(plain, fused, tolerance=1e-5):
    for a, b in zip(plain, fused, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * a.abs().max()


@every_case
@pytest.mark.parametrize('out_type', OUT_TYPES)
@torch.no_grad()
def test_outputs_stay_the_same(name, out_type):
    model = build(name, out_type=out_type)
    fused = copy.deepcopy(model).fuse()
    for size in ((64, 64), (65, 97), (177, 33)):
        x = torch.randn(2, 3, *size)
        assert_same(model(x), fused(x))


@pytest.mark.parametrize('size', [(1, 1), (1, 70), (33, 16), (17, 17)])
@torch.no_grad()
def test_borders_of_the_smallest_maps(size):
    model = build()
    x = torch.randn(1, 3, *size)
    assert_same(model(x), copy.deepcopy(model).fuse()(x))


@pytest.mark.parametrize('out_type', OUT_TYPES)
@pytest.mark.parametrize('name', [name for name in CASES if name.startswith('XViT') and 'group' not in name])
@torch.no_grad()
def test_padded_batches(name, out_type):
    model = build(name, mask_padding=True, out_type=out_type)
    fused = copy.deepcopy(model).fuse()
    x = torch.randn(3, 3, 96, 128)
    sizes = torch.tensor([[96, 128], [50, 90], [1, 128]])
    assert_same(model(x, image_sizes=sizes), fused(x, image_sizes=sizes))


@torch.no_grad()
def test_large_and_small_shifts_need_no_care():
    model = build(out_type='featmap')
    for module in model.modules():
        if isinstance(module, LocalPatchInteraction):
            nn.init.zeros_(module.norm.weight[::2])  # channels whose norm gives its shift only
            nn.init.constant_(module.norm.bias[:4], 100)
    x = torch.randn(1, 3, 80, 80)
    assert_same(model(x), copy.deepcopy(model).fuse()(x))


@every_case
def test_nothing_that_is_fixed_is_left(name):
    fused = build(name, drop_path_rate=0.1).fuse()
    kinds = {type(module).__name__ for module in fused.modules()}
    fixed = {'BatchNorm2d', 'DropPath', 'Affine', 'LinearNorm', 'XViTBlock'}
    # Only attention that is one matrix for each head lets its affine be folded.
    assert kinds & fixed == ({'Affine'} if name == 'XViT softmax' else set())
    assert not any('gamma' in key for key in fused.state_dict())
    assert not any(parameter.requires_grad for parameter in fused.parameters())


def test_twice_is_once_and_the_alias_is_the_same():
    model, other = build(), build()
    assert model.fuse() is model and other.switch_to_deploy() is other
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert model.fuse() is model and model.is_fused
    after, others = model.state_dict(), other.state_dict()
    assert before.keys() == after.keys() == others.keys()
    assert all(torch.equal(before[key], after[key]) and torch.equal(before[key], others[key]) for key in before)


def test_what_cannot_be_fused_is_refused():
    with pytest.raises(InputError, match='evaluation mode'):
        build().train().fuse()
    with pytest.raises(InputError, match='Linear has no backbone'):
        fuse(nn.Linear(2, 2))


@torch.no_grad()
def test_inside_another_model():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = build(out_type='cls_token')
            self.norm = nn.BatchNorm1d(32)

        def forward(self, x):
            return self.norm(self.backbone(x)[0])

    model = Classifier().eval()
    fused = copy.deepcopy(model)
    assert fuse(fused) is fused and fused.backbone.is_fused and isinstance(fused.norm, nn.BatchNorm1d)
    x = torch.randn(2, 3, 64, 64)
    assert_same([model(x)], [fused(x)])
    fused.load_state_dict(fused.state_dict())
    with pytest.raises(InputError, match='this XViT is fused and the weights are not'):
        fused.load_state_dict(model.state_dict())
    with pytest.raises(InputError, match='the weights are those of a fused XViT'):
        model.load_state_dict(fused.state_dict(), strict=False)


@every_case
@torch.no_grad()
def test_saving_copying_and_pickling(name, tmp_path):
    fused, other = build(name).fuse(), build(name, seed=1).fuse()
    x = torch.randn(1, 3, 64, 80)
    torch.save(fused.state_dict(), tmp_path / 'fused.pth')
    other.load_state_dict(torch.load(tmp_path / 'fused.pth', weights_only=True))
    expected = fused(x)
    for same in (other, copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert all(torch.equal(a, b) for a, b in zip(expected, same(x), strict=True))


def test_pretrained_weights_of_the_other_kind(tmp_path):
    plain, fused = build(), build().fuse()
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    torch.save(fused.state_dict(), tmp_path / 'fused.pth')
    assert not load_pretrained(build(seed=1).fuse(), tmp_path / 'fused.pth')['missing']
    with pytest.raises(InputError, match='load them before fuse'):
        load_pretrained(fused, tmp_path / 'plain.pth')
    with pytest.raises(InputError, match=r'call eval\(\) and fuse\(\) before'):
        load_pretrained(plain, tmp_path / 'fused.pth')


@pytest.mark.usefixtures('fresh_compiler')
@every_case
@torch.no_grad()
def test_compiles_into_one_graph(name):
    fused = build(name).fuse()
    x = torch.randn(1, 3, 64, 80)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert_same(fused(x), torch.compile(fused, fullgraph=True, backend='eager')(x))


@pytest.mark.usefixtures('fresh_compiler')
@pytest.mark.parametrize('mixer', ['xnorm', 'xca'])
@torch.no_grad()
def test_inductor_compiles_it_for_all_sizes_at_once(mixer):
    if problem := compiler_problem('cpu'):
        pytest.skip(problem)
    fused = build(arch=dict(_XVIT, depth=1), mixer=mixer, out_type='featmap', out_indices=-1).fuse()
    compiled = torch.compile(fused, fullgraph=True, dynamic=True)
    small, large = torch.randn(2, 3, 64, 80), torch.randn(3, 3, 96, 128)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert_same(fused(small), compiled(small))
        with torch.compiler.set_stance('fail_on_recompile'):
            assert_same(fused(large), compiled(large))


@pytest.mark.parametrize('name', ['XViT', 'XViT xca'])
@pytest.mark.parametrize('out_type', ['pyramid', 'cls_token'])
@torch.no_grad()
def test_exports_with_sizes_left_open(name, out_type):
    fused = build(name, out_type=out_type).fuse()
    sides = {axis: 16 * torch.export.Dim(name, min=2, max=64) for axis, name in ((2, 'rows'), (3, 'columns'))}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        exported = torch.export.export(fused, (torch.randn(2, 3, 96, 64),), dynamic_shapes=(sides,)).module()
    x = torch.randn(2, 3, 64, 160)
    assert_same(fused(x), exported(x))


@pytest.mark.parametrize('name', ['XViT', 'XViT xca'])
@torch.no_grad()
def test_half_precision(name):
    model = build(name)
    fused = copy.deepcopy(model).fuse()
    x = torch.randn(1, 3, 64, 80)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for a, b in zip(model(x), fused(x), strict=True):
            assert (a - b).norm() < 0.05 * a.norm()
    half = fused.bfloat16()
    assert all(out.isfinite().all() and out.dtype == torch.bfloat16 for out in half(x.bfloat16()))


@torch.no_grad()
def test_position_encoding_follows_size_weights_and_dtype():
    model = build(out_type='featmap')
    fused = copy.deepcopy(model).fuse()
    for size in ((64, 64), (64, 96), (64, 64)):
        x = torch.randn(1, 3, *size)
        assert_same(model(x), fused(x))
    assert fused.pos_embed((4, 4)) is fused.pos_embed((4, 4))
    for each in (model.pos_embed, fused.pos_embed.position):
        each.proj.weight.mul_(2)
    assert_same(model(x), fused(x))
    assert fused.double().pos_embed((4, 4)).dtype == torch.float64


class KernelCounter(TorchDispatchMode):
    """Counts operations that compute something: on a GPU, where a view is free, each is a kernel or more."""

    views = ('view', 'transpose', 'permute', 't.', 'select', 'slice', 'split', 'unbind', 'expand', 'unsqueeze')

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix('aten::').lstrip('_')
        self.number += not (name.startswith(self.views) or 'empty' in name or 'alias' in name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('name', ['XViT', 'XViT xca'])
@torch.no_grad()
def test_fewer_kernels(name):
    model = build(name, out_type='featmap')
    fused = copy.deepcopy(model).fuse()
    numbers = []
    for each in (model, fused):
        with KernelCounter() as kernels:
            each.to('meta')(torch.empty(1, 3, 64, 64, device='meta'))
        numbers.append(kernels.number)
    assert numbers[1] < 0.85 * numbers[0], numbers


def test_gradients_reach_the_image():
    model = build(out_type='featmap')
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    gradients = [torch.autograd.grad(m(x)[0].square().sum(), x)[0] for m in (model, build(out_type='featmap').fuse())]
    assert_same(gradients[:1], gradients[1:], tolerance=1e-4)
