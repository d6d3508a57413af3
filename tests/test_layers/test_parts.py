"""The parts that backbones share, each against its definition."""

import copy
import math

import pytest
import torch
from torch import nn

from xvit_det.errors import InputError
from xvit_det.functional import map_to_tokens, merge_heads, split_parts, tokens_to_map
from xvit_det.layers import (
    Affine,
    ClassAttentionBlock,
    ConvStem,
    DropPath,
    FeaturePyramid,
    FourierPosition,
    LocalPatchInteraction,
    XCiTClassBlock,
    build_norm,
    checkpoint,
)
from xvit_det.mixers import PerformerAttention

BN = dict(type='BN')


def test_tokens_and_maps_share_memory():
    x = torch.randn(2, 12, 5)
    m = tokens_to_map(x, (3, 4))
    assert m.shape == (2, 5, 3, 4) and m.is_contiguous(memory_format=torch.channels_last)
    assert m[1, 2, 1, 3] == x[1, 1 * 4 + 3, 2]
    assert map_to_tokens(m).data_ptr() == x.data_ptr()
    torch.testing.assert_close(map_to_tokens(m), x)


def test_affine():
    affine = Affine(3, scale=0.5)
    nn.init.constant_(affine.beta, 2.0)
    torch.testing.assert_close(affine(torch.ones(2, 4, 3)), torch.full((2, 4, 3), 2.5))


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.ones(4000, 3, 2)
    y = drop(x)
    assert ((y == 0).flatten(1).all(1) | (y == 1 / 0.75).flatten(1).all(1)).all()
    assert abs(y.mean().item() - 1) < 0.05
    assert drop.eval()(x) is x
    with pytest.raises(InputError, match=r'1\.0 is not in \[0, 1\)'):
        DropPath(1.0)


@pytest.mark.parametrize(
    'cfg, kind',
    [(BN, nn.BatchNorm2d), (dict(type='SyncBN'), nn.SyncBatchNorm), (dict(type='GN', num_groups=4), nn.GroupNorm)],
)
def test_norms(cfg, kind):
    norm = build_norm(dict(cfg, eps=1e-3, requires_grad=False), 8)
    assert type(norm) is kind and norm.eps == 1e-3
    assert not any(p.requires_grad for p in norm.parameters())
    assert cfg.get('eps') is None, 'the config itself stays as it was'


def test_unfit_norms():
    for cfg in (dict(type='GN'), dict(type='GN', num_groups=3)):
        with pytest.raises(InputError, match='GN needs num_groups that divides (8|the) channels'):
            build_norm(cfg, 8)
    with pytest.raises(InputError, match="'LN' is not one of BN, SyncBN, GN"):
        build_norm(dict(type='LN'), 8)


@pytest.mark.parametrize('size', [(1, 1), (5, 9), (12, 7)])
def test_position_code_is_a_1x1_convolution_of_sines_and_cosines(size):
    position = FourierPosition(24)
    h, w = size
    features = torch.zeros(64, h, w)
    for i in range(16):
        period = 10000 ** (2 * i / 32)
        for row in range(h):
            for column in range(w):
                y, x = ((a + 1) / b * 2 * math.pi / period for a, b in ((row, h), (column, w)))
                for offset, angle in ((0, y), (32, x)):
                    features[offset + 2 * i, row, column] = math.sin(angle)
                    features[offset + 2 * i + 1, row, column] = math.cos(angle)
    expected = map_to_tokens(position.proj(features[None]))
    torch.testing.assert_close(position(size), expected, rtol=1e-4, atol=1e-5)


def test_position_code_of_each_image_in_a_padded_batch():
    position = FourierPosition(24)
    codes = position((6, 8), torch.tensor([[6, 8], [3, 5]])).unflatten(1, (6, 8))
    torch.testing.assert_close(codes[0], position((6, 8)).unflatten(1, (6, 8))[0])
    torch.testing.assert_close(codes[1, :3, :5], position((3, 5)).unflatten(1, (3, 5))[0])


def test_stem_halves_and_rounds_up():
    stem = ConvStem(3, 32, 16, BN)
    assert [c.out_channels for c in stem.convs] == [4, 8, 16, 32]
    for height, width in ((32, 48), (33, 17), (1, 1)):
        assert stem.eval()(torch.randn(1, 3, height, width)).shape[-2:] == (-(-height // 16), -(-width // 16))
    with pytest.raises(InputError, match='stride 12 is not a power of two'):
        ConvStem(3, 32, 12, BN)
    with pytest.raises(InputError, match='embed_dims=36 is not a multiple of 8'):
        ConvStem(3, 36, 16, BN)


def test_lpi_is_two_depthwise_convolutions_on_the_map():
    torch.manual_seed(0)
    lpi = LocalPatchInteraction(6, BN).eval()
    nn.init.normal_(lpi.norm.running_mean)
    x = torch.randn(2, 20, 6)
    m = x.transpose(1, 2).reshape(2, 6, 4, 5)
    expected = lpi.conv2(lpi.norm(nn.functional.gelu(lpi.conv1(m)))).flatten(2).transpose(1, 2)
    torch.testing.assert_close(lpi(x, (4, 5)), expected)


def test_pyramid_sizes_and_levels():
    pyramid = FeaturePyramid([4] * 4, BN).eval()
    maps = [torch.randn(1, 4, 5, 7) for _ in range(4)]
    outs = pyramid(maps)
    assert [tuple(o.shape[-2:]) for o in outs] == [(20, 28), (10, 14), (5, 7), (3, 4)]
    assert outs[2] is maps[2]
    assert outs[3][0, 0, 2, 3] == maps[3][0, 0, 4, 6], 'the last odd row and column are seen'
    three = FeaturePyramid([4] * 3, BN, strides=(8, 16, 32))
    assert [tuple(o.shape[-2:]) for o in three(maps[1:])] == [(10, 14), (5, 7), (3, 4)]


def test_pyramid_of_maps_of_several_strides():
    pyramid = FeaturePyramid([4, 4, 6, 8], BN, in_strides=(16, 16, 32, 16)).eval()
    maps = [torch.randn(1, 4, 5, 7), torch.randn(1, 4, 5, 7), torch.randn(1, 6, 3, 4), torch.randn(1, 8, 5, 7)]
    outs = pyramid(maps)
    assert [tuple(o.shape[-3:]) for o in outs] == [(4, 20, 28), (4, 10, 14), (6, 6, 8), (8, 3, 4)]
    for level, factor in zip(pyramid.levels, (4, 2, 2), strict=False):
        assert sum(isinstance(m, nn.ConvTranspose2d) for m in level) == math.log2(factor)
    same = FeaturePyramid([4] * 4, BN, in_strides=(4, 8, 16, 32))
    assert all(a is b for a, b in zip(same(maps), maps, strict=True)) and not list(same.parameters())
    assert FeaturePyramid([4] * 2, BN, in_strides=(16, 16), strides=(8, 32)).strides == (8, 32)
    finer = FeaturePyramid([4] * 4, BN, in_strides=(8,) * 4).eval()
    outs = finer([maps[0]] * 4)
    assert [tuple(o.shape[-2:]) for o in outs] == [(10, 14), (5, 7), (3, 4), (2, 2)]
    assert outs[3][0, 1, 1, 0] == maps[0][0, 1, 4:, :4].max(), 'what remains of four rows is seen'
    coarser = FeaturePyramid([4] * 4, BN, in_strides=(32,) * 4).eval()
    assert coarser([maps[0]] * 4)[0].shape[-2:] == (40, 56)


@pytest.mark.parametrize('in_strides, wrong', [((14,) * 4, (14, 4)), ((4, 8, 16, 96), (96, 32))])
def test_strides_that_a_pyramid_cannot_bridge(in_strides, wrong):
    message = 'a map of stride {} cannot become one of stride {}: the ratio is not a power of two'
    with pytest.raises(InputError, match=message.format(*wrong)):
        FeaturePyramid([4] * 4, BN, in_strides)


def test_class_attention_reads_patch_tokens_and_leaves_them_alone():
    torch.manual_seed(0)
    block = ClassAttentionBlock(16, 8, 2, hidden_dims=32, layer_scale=1.0)
    cls_token, x = torch.randn(2, 1, 16), torch.randn(2, 6, 16)
    before = x.clone()
    out, same = block(cls_token, x)
    assert out.shape == (2, 1, 16)
    assert same is x and torch.equal(x, before)
    assert not torch.allclose(block(cls_token, x + torch.randn_like(x))[0], out)


@pytest.mark.parametrize('kind', ['xvit', 'xcit'])
def test_class_attention_is_its_weights_times_the_values(kind):
    torch.manual_seed(0)
    if kind == 'xvit':
        attention = ClassAttentionBlock(16, 8, 2, hidden_dims=32, layer_scale=1.0, kv_axis=-1).attn
    else:
        attention = XCiTClassBlock(16, 2, hidden_dims=32, layer_scale=1.0, tokens_norm=True).attn
    x, valid = torch.randn(2, 7, 16), torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    weights = attention.attention_map(x, valid)
    assert weights.shape == (2, 2, 1, 7) and not weights[1, ..., 5:].any()
    _, v = split_parts(attention.kv(x), 2, 2)
    if kind == 'xcit':
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 1))
    else:  # with this axis of the norm the values stay as they are
        assert weights.min() < 0
    torch.testing.assert_close(attention.proj(merge_heads(weights @ v)), attention(x, valid))


def test_checkpoint_counts_a_performers_step_once():
    torch.manual_seed(0)
    plain = PerformerAttention(8, 2, redraw_interval=2)
    checked = copy.deepcopy(plain)
    first = plain.features.clone()
    x = torch.randn(2, 5, 8)
    for _ in range(2):  # the features change in the second step
        plain(x).square().sum().backward()
        checkpoint(checked, x).square().sum().backward()
    assert not torch.equal(plain.features, first)
    assert torch.equal(plain.features, checked.features) and checked.steps == 2
    for a, b in zip(plain.parameters(), checked.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_checkpoint_updates_running_statistics_once_and_redraws_the_same_numbers():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    checked = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    checked.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 5, 5)
    for model, run in ((plain, plain), (checked, lambda x: checkpoint(checked, x))):
        torch.manual_seed(1)
        run(x).square().sum().backward()
        assert model[1].num_batches_tracked == 1
    for (name, a), b in zip(plain.state_dict().items(), checked.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    for a, b in zip(plain.parameters(), checked.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
