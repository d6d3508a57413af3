"""Stems against their definitions: how pixels become the first tokens."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from xvit_det import InputError
from xvit_det.layers import ConvTokenizer, OverlapPatchEmbed, PatchEmbed, PatchNormEmbed, PlainConvStem


@pytest.mark.parametrize('in_channels, stride', [(3, 1), (3, 2), (1, 4)])
def test_a_patch_is_a_vector_of_rows_columns_and_channels(in_channels, stride):
    torch.manual_seed(0)
    stem = PatchEmbed(in_channels, 5, stride)
    image = torch.randn(2, in_channels, 2 * stride, 3 * stride)
    out = stem(image)
    assert out.shape == (2, 5, 2, 3)
    for row in range(2):
        for column in range(3):
            vector = [
                image[:, channel, row * stride + i, column * stride + j]
                for i in range(stride)
                for j in range(stride)
                for channel in range(in_channels)  # the channel runs fastest
            ]
            torch.testing.assert_close(out[:, :, row, column], stem.proj(torch.stack(vector, dim=1)))


PATCHES = [PatchEmbed, PatchNormEmbed, OverlapPatchEmbed]


def tokenizer(in_channels: int, embed_dims: int, stride: int) -> ConvTokenizer:
    return ConvTokenizer(in_channels, (4, embed_dims), 3, (stride, 1), 1)


@pytest.mark.parametrize(
    'make, stride',
    [(make, stride) for make in (*PATCHES, PlainConvStem, tokenizer) for stride in (1, 2, 8)]
    + [(make, 3) for make in PATCHES],
)
def test_every_stem_gives_as_many_tokens_rounding_up(make, stride):
    stem = make(3, 8, stride)
    for height, width in ((16, 24), (17, 9), (stride, stride)):
        assert stem(torch.randn(1, 3, height, width)).shape == (1, 8, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize('kind', PATCHES)
def test_incomplete_patches_are_continued_with_zeros(kind):
    torch.manual_seed(0)
    stem = kind(3, 8, 4)
    image = torch.randn(1, 3, 10, 7)
    torch.testing.assert_close(stem(image), stem(functional.pad(image, (0, 1, 0, 2))))


def test_patch_norm_is_gelu_and_layer_norm_of_patches():
    torch.manual_seed(0)
    stem = PatchNormEmbed(3, 8, 2)
    nn.init.normal_(stem.norm.weight)
    image = torch.randn(1, 3, 4, 6)
    out = stem(image)
    token = stem.patches(image)[0, :, 1, 2]
    torch.testing.assert_close(out[0, :, 1, 2], stem.norm(functional.gelu(token)))


def test_overlapping_patches_reach_half_a_patch_beyond():
    stem = OverlapPatchEmbed(1, 1, 4)
    nn.init.ones_(stem.proj.weight)
    nn.init.zeros_(stem.proj.bias)
    out = stem(torch.ones(1, 1, 16, 16))[0, 0]
    assert out[1, 1] == 8 * 8 and out[0, 1] == 6 * 8 and out[3, 3] == 6 * 6  # two rows lie outside


@pytest.mark.parametrize('stride, strides', [(1, (1, 1, 1)), (2, (2, 1, 1)), (4, (2, 2, 1)), (8, (2, 2, 2))], ids=str)
def test_the_first_convolutions_of_the_plain_stem_take_the_strides(stride, strides):
    stem = PlainConvStem(3, 128, stride)
    assert tuple(conv.stride[0] for conv in stem) == strides
    assert [conv.out_channels for conv in stem] == [32, 64, 128]
    assert sum(p.numel() for p in stem.parameters()) == 93_248
    image = torch.randn(1, 3, 16, 16)
    expected = stem[2](stem[1](stem[0](image)))  # nothing between them: a linear map, but for the biases
    torch.testing.assert_close(stem(image), expected)


def test_plain_stems_that_cannot_be():
    with pytest.raises(InputError, match='stride of 1, 2, 4 or 8, not 16; use stem deep_conv'):
        PlainConvStem(3, 128, 16)
    with pytest.raises(InputError, match='embed_dims=6 is not a multiple of 4'):
        PlainConvStem(3, 6, 2)


def test_the_tokenizer_is_convolution_relu_and_pooling_in_turn():
    torch.manual_seed(0)
    stem = ConvTokenizer(3, (64, 64, 128), 3, (2, 1, 1), 1)
    assert sum(p.numel() for p in stem.parameters()) == 112_320
    image = torch.randn(1, 3, 12, 10)
    x = image
    for conv, stride in zip(stem.convs, (2, 1, 1), strict=True):
        x = functional.relu(functional.conv2d(x, conv.weight, stride=stride, padding=1))
        x = functional.max_pool2d(x, 3, stride=1, padding=1)
    torch.testing.assert_close(stem(image), x)
