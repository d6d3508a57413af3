"""PiX against PiT's description."""

import pytest
import torch
from torch import nn

from xvit_det import PiX, count_parameters
from xvit_det.backbones.pix import TokenPooling


def paper(**options) -> PiX:
    torch.manual_seed(0)
    base = dict(arch='paper', mixer='softmax', img_size=32, patch_size=1, out_type='cls_token')
    return PiX(**{**base, **options})


@pytest.mark.parametrize('num_prefix', [0, 1])
def test_pooling_halves_the_map_and_widens_the_class_token(num_prefix):
    torch.manual_seed(0)
    pooling = TokenPooling(4, 8, num_prefix)
    x = torch.randn(2, num_prefix + 15, 4)
    pooled, size = pooling(x, (3, 5))
    assert size == (2, 3) and pooled.shape == (2, num_prefix + 6, 8)
    image = x[:, num_prefix:].transpose(1, 2).reshape(2, 4, 3, 5)
    expected = nn.functional.conv2d(
        image, pooling.depthwise.weight, pooling.depthwise.bias, stride=2, padding=1, groups=4
    )
    torch.testing.assert_close(pooled[:, num_prefix:], pooling.pointwise(expected).flatten(2).transpose(1, 2))
    if num_prefix:
        torch.testing.assert_close(pooled[:, 0], pooling.cls_proj(x[:, 0]))
    else:
        assert pooling.cls_proj is None


def test_a_classifier_reads_the_widened_class_token():
    model = paper(patch_size=4).eval()
    x = torch.randn(2, 3, 24, 20)
    tokens, size = model.entries[0](x)
    for number, block in enumerate(model.blocks):
        if number == 2:
            tokens, size = model.entries[1](tokens, size)
        tokens = tokens + block.mixer(block.norm1(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens))
    assert tokens.shape == (2, 1 + 9, 256)
    torch.testing.assert_close(model(x)[0], model.norms[0](tokens[:, 0]))


def test_sizes_of_the_paper():
    model = paper()
    assert count_parameters(model.entries[1]) == 101_376
    assert count_parameters(model.blocks[0]) == 132_096 and count_parameters(model.blocks[2]) == 263_936
    second = model.blocks[2].mixer
    assert second.qkv.in_features == 256 and second.proj.in_features == 128, 'the heads keep their width'
    assert model.out_channels == (256,)


def test_linformer_has_a_projection_for_each_stage():
    model = paper(mixer='linformer')
    assert [tuple(block.mixer.projection.shape) for block in model.blocks] == [(1025, 64)] * 2 + [(257, 64)] * 2
    maps = paper(mixer='linformer', out_type='pyramid', patch_size=8, img_size=100)
    assert [len(block.mixer.projection) for block in maps.blocks] == [169, 169, 49, 49]


def test_maps_have_neither_class_token_nor_its_layer():
    model = paper(out_type='pyramid', patch_size=8)
    assert not any('cls' in name or name.startswith('norms') for name in model.state_dict())
    assert model.entries[0].pos_embed.table.shape == (1, 16, 128)


def test_small_has_the_strides_of_pit():
    model = PiX(arch='small', mixer='fourier', stem='overlap', out_type='featmap', out_indices=(1, 2, 8)).eval()
    assert model.out_strides == (8, 16, 32)
    outs = model(torch.randn(1, 3, 70, 97))
    assert [tuple(out.shape[1:]) for out in outs] == [(144, 9, 13), (288, 5, 7), (576, 3, 4)]
