"""CvX against CvT's description."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from xvit_det import CvX, InputError, count_parameters
from xvit_det.backbones.cvx import CvTAttention
from xvit_det.layers import ChannelNorm


def paper(**options) -> CvX:
    torch.manual_seed(0)
    base = dict(arch='paper', mixer=dict(type='softmax', head_dims=64), img_size=32, patch_size=1, out_type='cls_token')
    return CvX(**{**base, **options})


def test_stages_of_a_convolution_a_channel_norm_and_blocks():
    model = paper(patch_size=2).eval()
    for norm in (m for m in model.modules() if isinstance(m, ChannelNorm)):
        nn.init.normal_(norm.weight)
    x = features = torch.randn(2, 3, 12, 16)
    blocks = iter(model.blocks)
    for entry, depth in zip(model.entries, (1, 1, 2), strict=True):
        features = entry.conv(features)
        size = features.shape[2:]
        tokens = entry.norm(features.flatten(2).transpose(1, 2))
        for _ in range(depth):
            block = next(blocks)
            tokens = tokens + block.mixer(block.norm1(tokens), size=size)
            tokens = tokens + block.mlp(block.norm2(tokens))
        features = tokens.transpose(1, 2).unflatten(2, size)
    torch.testing.assert_close(model(x)[0], tokens.mean(dim=1))


def test_sizes_of_the_paper():
    model = paper()
    assert count_parameters(model.blocks[0].mixer) == 134_016
    assert sum(count_parameters(entry.conv) for entry in model.entries) == 298_752
    norms = [m for m in model.modules() if isinstance(m, ChannelNorm)]
    assert len(norms) == 11 and not any(isinstance(m, nn.LayerNorm) for m in model.modules())
    assert not any(isinstance(m, _BatchNorm) for m in paper(mixer='performer').modules())
    assert model._stride(2) == 1 and paper(patch_size=2, img_size=64)._stride(2) == 2


def test_attention_has_convolutional_projections():
    torch.manual_seed(0)
    mixer = CvTAttention(6, num_heads=2, head_dims=5).eval()
    for norm in (mixer.q.norm, mixer.kv.norm):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(tensor)
    x = torch.randn(2, 12, 6)
    image = x.transpose(1, 2).reshape(2, 6, 3, 4)

    def project(layer):
        features = functional.conv2d(image, layer.conv.weight, padding=1, groups=6)
        return functional.conv2d(layer.norm(features), layer.linear.weight[:, :, None, None])

    q = project(mixer.q).reshape(2, 2, 5, 12)  # (B, H, d, N)
    k, v = (part.reshape(2, 2, 5, 12) for part in project(mixer.kv).chunk(2, dim=1))
    attention = (q.transpose(2, 3) @ k * 5**-0.5).softmax(dim=-1)
    out = (v @ attention.transpose(2, 3)).reshape(2, 10, 12).transpose(1, 2)
    torch.testing.assert_close(mixer(x, size=(3, 4)), mixer.proj(out))


@pytest.mark.parametrize('options', [{}, dict(size=(3, 5))])
def test_attention_needs_the_map(options):
    with pytest.raises(InputError, match=r'CvT attention needs the size \(h, w\) of its 12 tokens'):
        CvTAttention(6, 2)(torch.randn(1, 12, 6), **options)


def test_cvt_13_has_strides_4_8_16():
    model = CvX(arch='cvt_13', mixer='fourier', out_type='featmap', out_indices=(0, 2, 4)).eval()
    assert [entry.conv.kernel_size[0] for entry in model.entries] == [7, 3, 3]
    assert model.out_strides == (4, 8, 16)
    outs = model(torch.randn(1, 3, 34, 61))
    assert [tuple(out.shape[1:]) for out in outs] == [(64, 9, 16), (192, 5, 8), (384, 3, 4)]


def test_kernels_are_one_for_each_stage():
    with pytest.raises(InputError, match='one number per stage'):
        paper(arch=dict(CvX.arch_zoo['paper'], kernels=(3, 3)))


@pytest.mark.parametrize('masked', [False, True])
def test_gradients_of_the_attention(check_gradients, masked):
    """Against differences in float64, in training."""
    torch.manual_seed(0)
    mixer = CvTAttention(4, 2).double()
    torch.nn.init.normal_(mixer.proj.weight)
    valid = torch.rand(2, 12) < 0.7 if masked else None
    check_gradients(mixer, torch.randn(2, 12, 4, dtype=torch.float64), valid, (3, 4))


def test_valid_tokens_do_not_feel_the_others():
    mixer = CvTAttention(6, 2).eval()
    x, valid = torch.randn(2, 12, 6), torch.rand(2, 12) < 0.7
    changed = x.masked_fill(~valid[..., None], 1e4)
    torch.testing.assert_close(mixer(changed, valid, (3, 4))[valid], mixer(x, valid.float(), (3, 4))[valid])
