"""X-ViT with other token mixers, patches of 8, and what it refuses."""

import pytest
import torch
from torch import nn

from xvit_det import InputError, XViT, count_macs, count_parameters
from xvit_det.backbones.xvit_archs import XCIT
from xvit_det.layers import FeaturePyramid
from xvit_det.mixers import MIXERS

ARCH = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=2, layer_scale=1.0)
XCIT_PARTS = dict(class_block='xcit', tokens_norm=True, ceil_pool=False)
MADE_FOR_A_GRID = {'linformer', 'mlp'}
OPTIONS = {'nystrom': dict(landmarks=4)}


def build(mixer: str | dict = 'xca', **options) -> XViT:
    torch.manual_seed(0)
    return XViT(**{'arch': ARCH, 'mixer': mixer, **options})


@pytest.mark.parametrize('patch_size', [8, 16])
@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('mixer', sorted(set(MIXERS) - MADE_FOR_A_GRID))
def test_every_mixer_makes_a_pyramid_and_learns(mixer, with_cp, patch_size):
    model = build(
        dict(type=mixer, **OPTIONS.get(mixer, {})), patch_size=patch_size, with_cp=with_cp, drop_path_rate=0.1
    ).train()
    assert all(type(block.attn) is MIXERS[mixer] for block in model.blocks)
    outs = model(torch.randn(2, 3, 64, 97))
    assert model.out_strides == (4, 8, 16, 32)
    assert [64 // out.shape[2] for out in outs] == [4, 8, 16, 32]
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('mixer', sorted(MADE_FOR_A_GRID))
def test_mixers_made_for_one_grid_are_refused(mixer):
    choices = 'softmax, performer, nystrom, fourier, xnorm, xca, identity'
    with pytest.raises(InputError, match=f"^mixer '{mixer}' is not one of {choices}"):
        build(mixer)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mixer=None), 'mixer None is not one of softmax, performer'),
        (dict(mixer=dict(type='xca', gamma=1.0)), 'mixer xca has no option gamma; choices: none'),
        (dict(mixer=dict(type='xca', window=3)), 'mixer xca has no option window; choices: none'),
        (dict(kv_axis=-1), "kv_axis=-1 and gamma=1.0 are options of XNorm attention, not of mixer 'xca'"),
        (dict(gamma=None), "gamma=None are options of XNorm attention, not of mixer 'xca'"),
        (dict(patch_size=12), 'patch_size=12 is not one of 8, 16'),
        (dict(arch=dict(ARCH, class_block='cait')), "class_block='cait' is not one of xvit, xcit"),
        (dict(arch=dict(ARCH, attn_dims=18)), 'attn_dims=18 is not divisible by num_heads=4'),
        (dict(arch=dict(ARCH, pool='floor')), r"custom arch needs exactly the keys .*unknown \['pool'\]"),
        (dict(arch='small_36'), "arch 'small_36' is not one of tiny, small, medium, base, nano_12, .*, large_24"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(options, message):
    with pytest.raises(InputError, match=message):
        build(**options)


def test_too_small_a_map_for_pools_that_round_down():
    model = build(arch=dict(ARCH, **XCIT_PARTS)).eval()
    model(torch.zeros(1, 3, 17, 17))
    with pytest.raises(InputError, match='a map of 1 x 2 is too small for XCiT, which pools it by 2'):
        model(torch.zeros(1, 3, 16, 17))


@pytest.mark.parametrize('patch_size', [8, 16])
@pytest.mark.parametrize('ceil_pool', [False, True])
def test_pyramid_is_xcits(patch_size, ceil_pool):
    """Written out, with a side of 7 or 9 tokens where rounding matters."""
    torch.manual_seed(0)
    pyramid = FeaturePyramid([6] * 4, dict(type='BN'), [patch_size] * 4, ceil_pool=ceil_pool).eval()
    for norm in pyramid.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean)
            nn.init.normal_(norm.weight)
    maps = [torch.randn(2, 6, 7, 9) for _ in range(4)]
    first, second, third, fourth = pyramid.levels
    if patch_size == 16:
        up, norm, _, up_again = first
        expected = [up_again(nn.functional.gelu(norm(up(maps[0])))), second[0](maps[1]), maps[2]]
        pooled = [(maps[3], 2)]
    else:
        expected = [first[0](maps[0]), maps[1]]
        pooled = [(maps[2], 2), (maps[3], 4)]
        assert not list(second) and isinstance(third, nn.MaxPool2d) and isinstance(fourth, nn.MaxPool2d)
    for x, side in pooled:
        if ceil_pool:
            x = nn.functional.pad(x, (0, -x.shape[3] % side, 0, -x.shape[2] % side), value=float('-inf'))
        h, w = x.shape[2] // side, x.shape[3] // side
        expected.append(x[..., : h * side, : w * side].unflatten(3, (w, side)).unflatten(2, (h, side)).amax((3, 5)))
    for out, wanted in zip(pyramid(maps), expected, strict=True):
        torch.testing.assert_close(out, wanted)


def test_temperatures_get_no_weight_decay():
    model = build(out_type='cls_token', arch=dict(ARCH, **XCIT_PARTS))
    spared = {name for name in model.no_weight_decay() if 'temperature' in name}
    assert spared == {f'blocks.{i}.attn.temperature' for i in range(4)}


# Parameters of the classifiers with 1000 classes, in millions, as the XCiT paper's Table 1 and code print them
PRINTED = {'nano_12': 3, 'tiny_12': 7, 'tiny_24': 12, 'small_12': 26, 'small_24': 48, 'medium_24': 84, 'large_24': 189}


@pytest.mark.parametrize('arch', XCIT)
def test_sizes_of_xcit(arch):
    with torch.device('meta'):
        backbones = [XViT(arch=arch, mixer='xca', patch_size=p, out_type='cls_token') for p in (16, 8)]
    width = backbones[0].embed_dims
    betas = sum(p.numel() for name, p in backbones[0].named_parameters() if name.endswith('.beta'))
    total = count_parameters(backbones[0]) - betas + 1001 * width
    assert round(total / 1e6) == PRINTED[arch]
    assert {block.affine1.alpha.shape[0] for block in backbones[0].blocks} == {width}
    macs = [count_macs(backbone) for backbone in backbones]
    assert 3.5 < macs[1] / macs[0] < 4.1  # four times as many tokens
