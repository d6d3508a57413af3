"""Replaced branches against models with zeroed weights; recorded means and shares against the definition; padding."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from xvit_det import backbones
from xvit_det.analysis.branches import find_branches, record_branches, replace_branches
from xvit_det.errors import InputError
from xvit_det.layers import PostNormBlock, XCiTClassBlock

_XVIT = dict(embed_dims=32, depth=3, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=2, layer_scale=1.0)
_ONE_STAGE = dict(embed_dims=(16,), depths=(3,), num_heads=(2,), hidden_dims=(32,), head_dims=8)
_TWO_STAGES = dict(embed_dims=(16, 32), depths=(1, 2), num_heads=(2, 4), hidden_dims=(32, 64), head_dims=8)
_TAPS = dict(pyramid_indices=(0, 1, 2, 2))
_TOKENIZER = dict(tokenizer_widths=(8,), tokenizer_kernel=3, pool_stride=2)

# Three blocks of each family; for X-ViT two class attention blocks, X-ViT's or XCiT's.
MODELS_OF = {
    'XViT': dict(type='XViT', arch=_XVIT),
    'XCiT': dict(type='XViT', arch=dict(_XVIT, class_block='xcit', attn_dims=32), mixer='xca'),
    'ViX': dict(type='ViX', arch=dict(_ONE_STAGE, **_TAPS, init_std=0.5), mixer='softmax'),
    'LeViX': dict(type='LeViX', arch=dict(_TWO_STAGES, **_TAPS, pre_norm=False), mixer='softmax'),
    'CCX': dict(type='CCX', arch=dict(_ONE_STAGE, **_TAPS, **_TOKENIZER), mixer='softmax'),
    'CvX': dict(type='CvX', arch=dict(_TWO_STAGES, **_TAPS, kernels=(7, 3), later_stride=2), mixer='softmax'),
    'PiX': dict(type='PiX', arch=dict(_TWO_STAGES, **_TAPS, init_std=0.5), mixer='softmax'),
}
every_family = pytest.mark.parametrize('name', MODELS_OF)


def build(name: str, out_type: str = 'cls_token', **options) -> nn.Module:
    """In evaluation mode, with every weight, bias and BatchNorm statistic away from its start value."""
    torch.manual_seed(0)
    model = MODELS.build(dict(MODELS_OF[name], out_type=out_type, **options)).eval()
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for n, b in model.named_buffers() if 'running_' in n)):
            tensor.add_(0.1 * torch.rand_like(tensor))
        if name == 'XCiT':  # which has no beta; ours is zero there
            for block in getattr(model, 'class_blocks', ()):
                block.affine1.beta.zero_()
    return model


def images(number: int = 2) -> torch.Tensor:
    return torch.rand(number, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def outputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([out.flatten() for out in model(x)])


def zero_(model: nn.Module, branch: str) -> None:
    """Set to zero what makes a branch add zeros: its affine, or the last layer of a mixer or MLP."""
    block, _, adds = find_branches(model)[branch]
    if isinstance(block, XCiTClassBlock) and branch.endswith('mixer'):
        adds = block.attn  # the affine is for the patch tokens, too
    layers = [module for module in adds.modules() if [*module.parameters(recurse=False)]]
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)


def test_names():
    assert [*find_branches(build('XViT'))] == [
        *(f'blocks.{i}.{kind}' for i in range(3) for kind in ('mixer', 'local', 'mlp')),
        *(f'class_blocks.{i}.{kind}' for i in range(2) for kind in ('mixer', 'mlp')),
    ]
    detector = nn.ModuleDict(dict(backbone=build('CvX'), neck=nn.Linear(1, 1)))
    assert [*find_branches(detector)] == [f'blocks.{i}.{kind}' for i in range(3) for kind in ('mixer', 'mlp')]


@every_family
def test_zero_equals_a_model_with_zeroed_weights(name):
    x = images()
    intact = outputs(build(name), x)
    for branch in find_branches(build(name)):
        model = build(name)
        with replace_branches(model, {branch: 0}):
            replaced = outputs(model, x)
        assert not torch.allclose(replaced, intact, atol=1e-4), branch
        assert torch.equal(outputs(model, x), intact), branch  # the hooks are gone
        zeroed = build(name)
        zero_(zeroed, branch)
        assert torch.equal(outputs(zeroed, x), replaced), branch


@every_family
@torch.no_grad()
def test_statistics_against_their_definition(name):
    model, x = build(name), images()
    streams, added, hooks = {}, {}, []
    for branch, (block, _, adds) in find_branches(model).items():

        def keep_stream(block, args, branch=branch):
            streams[branch] = args[0].clone()

        def keep_added(part, args, output, branch=branch):
            added[branch] = output.clone()

        hooks += [block.register_forward_pre_hook(keep_stream), adds.register_forward_hook(keep_added)]
    intact = outputs(model, x)
    for hook in hooks:
        hook.remove()
    with record_branches(model) as statistics:
        assert torch.equal(outputs(model, x), intact)

    for branch, (block, _, _) in find_branches(model).items():
        names = [name for name in added if name.rpartition('.')[0] == branch.rpartition('.')[0]]
        # The block's input, and what its branches before this one have added to it.
        stream = streams[branch] + sum(added[name] for name in names[: names.index(branch)])
        if branch.endswith('mlp') and isinstance(block, PostNormBlock | XCiTClassBlock):
            stream = block.norm2(stream)
        out = added[branch].flatten(0, 1).double()  # (B, T, C) -> (n, C)
        assert statistics[branch].tokens == len(out)
        torch.testing.assert_close(statistics[branch].mean, out.mean(0))
        assert statistics[branch].share == pytest.approx(float(out.norm() / stream.norm()), rel=1e-5)
        varying = float((out - out.mean(0)).norm() / stream.norm())
        assert statistics[branch].varying_share == pytest.approx(varying, rel=1e-4)
        assert 0 < varying < statistics[branch].share


@every_family
def test_the_mean_of_a_constant_branch_changes_nothing(name):
    model, x = build(name), images()
    with record_branches(model) as statistics:
        outputs(model, x)
    for branch, statistic in statistics.items():
        vector = torch.randn_like(statistic.mean).float()
        with replace_branches(model, {branch: vector}):
            expected = outputs(model, x)
            with record_branches(model) as constant:
                outputs(model, x)
            assert torch.equal(constant[branch].mean.float(), vector)
            assert constant[branch].varying_share < 1e-6 < constant[branch].share
            with replace_branches(model, {branch: constant[branch].mean}):
                assert torch.equal(outputs(model, x), expected)


def test_means_of_batches_are_those_of_all_images():
    model, x = build('XViT'), images(3)
    with record_branches(model) as together:
        outputs(model, x)
    with record_branches(model) as apart:
        outputs(model, x[:1])
        outputs(model, x[1:])
    for branch in together:
        torch.testing.assert_close(apart[branch].mean, together[branch].mean, rtol=1e-5, atol=1e-6)
        assert apart[branch].share == pytest.approx(together[branch].share, rel=1e-4)


def test_padding_does_not_count():
    model = build('XViT', mask_padding=True)
    image = 0.1 + images(1)
    padded = nn.functional.pad(image, (0, 64, 0, 32))
    with record_branches(model) as alone:
        outputs(model, image)
    with record_branches(model) as in_padding:
        outputs(model, padded)
    for branch, statistic in in_padding.items():
        assert statistic.tokens == alone[branch].tokens == (16 if branch.startswith('blocks') else 1)
        torch.testing.assert_close(statistic.mean, alone[branch].mean, rtol=1e-4, atol=1e-5)
        assert statistic.share == pytest.approx(alone[branch].share, rel=1e-4)
    means = {branch: statistic.mean for branch, statistic in alone.items() if branch.startswith('blocks')}
    with replace_branches(model, means):
        torch.testing.assert_close(outputs(model, padded), outputs(model, image))


def test_the_inner_of_nested_contexts_counts():
    model, x = build('ViX'), images()
    with replace_branches(model, {'blocks.1.mixer': 0}):
        zero = outputs(model, x)
    with replace_branches(model, {'blocks.1.mixer': 1}):
        one = outputs(model, x)
        with replace_branches(model, {'blocks.1.mixer': 0}):
            assert torch.equal(outputs(model, x), zero)
        assert torch.equal(outputs(model, x), one)


def test_hooks_are_removed_after_an_exception():
    model, x = build('XViT'), images()
    intact = outputs(model, x)
    with (
        pytest.raises(RuntimeError, match='stop'),
        record_branches(model),
        replace_branches(model, {'blocks.0.mlp': 0}),
    ):
        raise RuntimeError('stop')
    assert torch.equal(outputs(model, x), intact)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_wrong_use_is_refused_in_a_sentence():
    model = build('XViT')
    with pytest.raises(InputError, match=r"no branch 'blocks.7.mixer'; did you mean .*blocks.\d.mixer"):
        replace_branches(model, {'blocks.7.mixer': 0}).__enter__()
    with (
        pytest.raises(InputError, match=r'blocks.0.mlp adds vectors of 32 channels, not of shape \(3,\)'),
        replace_branches(model, {'blocks.0.mlp': torch.zeros(3)}),
    ):
        outputs(model, images())
    with record_branches(model) as statistics:
        pass
    for figure in ('mean', 'share', 'varying_share'):
        with pytest.raises(InputError, match='no image went through'):
            getattr(statistics['blocks.0.mlp'], figure)
    with pytest.raises(InputError, match='Linear has no backbone of xvit_det'):
        find_branches(nn.Linear(1, 1))
    with pytest.raises(InputError, match='ModuleList has 2 backbones of xvit_det, not one'):
        find_branches(nn.ModuleList([build('XViT'), build('ViX')]))
    with pytest.raises(InputError, match='this XViT is fused'):
        find_branches(model.fuse())


def test_every_family_is_tested():
    families = {name for name in backbones.__all__ if name[0].isupper()} - {'Backbone'}
    assert {options['type'] for options in MODELS_OF.values()} == families
