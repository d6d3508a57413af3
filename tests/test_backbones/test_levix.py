"""LeViX against its description, and LeViT's attention against 1x1 convolutions."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from xvit_det import LeViX, count_parameters
from xvit_det.backbones.levix import LeViTAttention


def paper(**options) -> LeViX:
    torch.manual_seed(0)
    base = dict(arch='paper', mixer='softmax', stem='conv', img_size=32, patch_size=1, out_type='cls_token')
    return LeViX(**{**base, **options})


def shake(module: nn.Module) -> None:
    """Statistics and gains of BatchNorm as after training, and not the identity."""
    for norm in (m for m in module.modules() if isinstance(m, _BatchNorm)):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(tensor)
        nn.init.uniform_(norm.running_var, 0.5, 2)


@pytest.mark.parametrize('mixer', ['softmax', 'performer'])
def test_residuals_without_norms_and_the_mean_of_the_tokens(mixer):
    model = paper(patch_size=4, mixer=mixer).eval()
    shake(model)
    x = torch.randn(2, 3, 16, 16)
    tokens = model.entries[0].stem(x).flatten(2).transpose(1, 2)
    for block in model.blocks:
        tokens = tokens + block.mixer(tokens)
        tokens = tokens + block.mlp(tokens)
    torch.testing.assert_close(model(x)[0], tokens.mean(dim=1))


def test_the_papers_models_have_no_norm_but_those_in_levits_attention():
    norms = (nn.LayerNorm, nn.GroupNorm, _BatchNorm)
    for mixer in ('performer', 'linformer', 'nystrom'):
        assert not any(isinstance(m, norms) for m in paper(mixer=mixer).modules())
    found = [name for name, m in paper().named_modules() if isinstance(m, norms)]
    assert len(found) == 4 * 4 and all('.mixer.' in name for name in found)
    model = paper()
    assert count_parameters(model.entries) == 93_248
    assert count_parameters(model.blocks[0].mixer) == 66_688


def test_a_norm_is_an_option():
    model = paper(arch=dict(LeViX.arch_zoo['paper'], pre_norm=True), mixer='performer')
    assert all(isinstance(m, nn.LayerNorm) for block in model.blocks for m in (block.norm1, block.norm2))
    assert isinstance(model.norms[0], nn.LayerNorm)


def test_levit_attention_is_1x1_convolutions_with_batch_norm():
    torch.manual_seed(0)
    mixer = LeViTAttention(12, num_heads=2, head_dims=5).eval()
    shake(mixer)
    x = torch.randn(2, 6, 12)
    image = x.transpose(1, 2).reshape(2, 12, 2, 3)

    def conv_norm(layer, features):
        weight = layer.linear.weight[:, :, None, None]
        features = functional.conv2d(features, weight, layer.linear.bias)
        norm = layer.norm
        return functional.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    q, k, v = (conv_norm(layer, image).reshape(2, 2, 5, 6) for layer in (mixer.q, mixer.k, mixer.v))  # (B, H, d, N)
    attention = (q.transpose(2, 3) @ k * 5**-0.5).softmax(dim=-1)
    out = (v @ attention.transpose(2, 3)).reshape(2, 10, 2, 3)
    expected = conv_norm(mixer.proj, functional.gelu(out)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(mixer(x), expected)


def test_batch_statistics_are_those_of_all_tokens():
    torch.manual_seed(0)
    layer = LeViTAttention(12, 2).q.train()
    out = layer(torch.randn(3, 7, 12) * 4 + 2).flatten(0, 1)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=0, correction=0), torch.ones(12), atol=1e-3, rtol=0)


def test_blocks_start_as_their_perceptrons_alone():
    model = paper(patch_size=4).train()
    assert all((block.mixer.proj.norm.weight == 0).all() for block in model.blocks)
    x = torch.randn(2, 16, 128)
    block = model.blocks[0]
    torch.testing.assert_close(block(x, (4, 4)), x + block.mlp(x))


def test_levit_256_narrows_its_map_by_convolutions():
    model = LeViX(arch='levit_256', mixer='fourier', out_type='featmap', out_indices=(3, 7, 11)).eval()
    assert model.out_strides == (16, 32, 64)
    outs = model(torch.randn(1, 3, 130, 70))
    assert [tuple(out.shape[1:]) for out in outs] == [(256, 9, 5), (384, 5, 3), (512, 3, 2)]
    pyramid = LeViX(arch='levit_256', mixer='fourier')
    assert len(pyramid.blocks) == 8 and len(pyramid.entries) == 2, 'the third stage is not read and not built'


@pytest.mark.parametrize('masked', [False, True])
def test_gradients_of_the_attention(check_gradients, masked):
    """Against differences in float64, in training."""
    torch.manual_seed(0)
    mixer = LeViTAttention(4, 2).double()
    torch.nn.init.normal_(mixer.proj.norm.weight)
    valid = torch.rand(2, 12) < 0.7 if masked else None
    check_gradients(mixer, torch.randn(2, 12, 4, dtype=torch.float64), valid, (3, 4))
