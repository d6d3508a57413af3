"""CCX against CCT's description."""

import pytest
import torch
from torch import nn

import xvit_det
from xvit_det import CCX, InputError, count_parameters


def paper(**options) -> CCX:
    torch.manual_seed(0)
    return CCX(**{**dict(arch='paper', mixer='softmax', img_size=32, patch_size=1, out_type='cls_token'), **options})


def test_the_second_norm_stands_on_the_residual_stream_and_tokens_are_pooled_by_score():
    model = paper(patch_size=4).eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.LayerNorm)):
        nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 16, 16)
    (entry,) = model.entries
    tokens = entry.stem(x).flatten(2).transpose(1, 2) + entry.pos_embed((4, 4))
    for block in model.blocks:
        y = block.norm2(tokens + block.mixer(block.norm1(tokens)))
        tokens = y + block.mlp(y)
    tokens = model.norms[0](tokens)
    expected = []
    for image in tokens:
        weights = torch.stack([model.pooling.score(token)[0] for token in image]).exp()
        weights = weights / weights.sum()
        expected.append(sum(w * token for w, token in zip(weights, image, strict=True)))
    torch.testing.assert_close(model(x)[0], torch.stack(expected))


def test_weights_of_the_sequence_pooling_sum_to_one():
    pooling = paper().pooling
    x = torch.randn(1, 1, 128).expand(3, 50, 128)
    torch.testing.assert_close(pooling(x), x[:, 0])
    assert count_parameters(pooling) == 129


def test_sizes_of_the_paper():
    model = paper()
    assert count_parameters(model.entries[0].stem) == 112_320
    assert model.entries[0].cls_token is None
    assert model.entries[0].pos_embed.table.shape == (1, 1024, 128)
    assert count_parameters(model.blocks[0]) == 197_888
    assert model.blocks[0].mlp[0].out_features == 512


@pytest.mark.parametrize('patch_size, strides', [(1, [1, 1, 1]), (2, [2, 1, 1]), (4, [2, 2, 1]), (8, [2, 2, 2])])
def test_strides_of_the_papers_tokenizer(patch_size, strides):
    model = paper(patch_size=patch_size, mixer='fourier')
    assert [conv.stride[0] for conv in model.entries[0].stem.convs] == strides


def test_strides_of_larger_tokenizers():
    model = CCX(arch='cct_14', mixer='fourier', out_type='featmap', out_indices=0)
    assert [conv.stride[0] for conv in model.entries[0].stem.convs] == [2, 2]
    assert model.eval()(torch.randn(1, 3, 65, 97))[0].shape == (1, 384, 5, 7)
    with pytest.raises(InputError, match=r'patch_size=32 is not one of the strides \[4, 8, 16\]'):
        CCX(arch='cct_14', patch_size=32)


def test_start_values():
    model = paper(mixer='performer')
    table = model.entries[0].pos_embed.table
    assert table.abs().max() <= 2 and table.std().item() == pytest.approx(0.2, rel=0.02)
    linear = model.blocks[0].mlp[0]
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05) and not linear.bias.any()
    conv = model.entries[0].stem.convs[1]
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    of_values = paper(mixer='nystrom').blocks[0].mixer.conv.weight
    assert of_values.abs().max() <= 33**-0.5, "He's start is the tokenizer's alone"


@pytest.mark.parametrize('name', xvit_det.list_models('cc[lnpt]_*'))
def test_start_values_of_the_head(name):
    pytest.importorskip('mmpretrain')
    head = xvit_det.create_model(name).head.fc
    assert head.weight.std().item() == pytest.approx(0.02, rel=0.1) and head.weight.abs().max() <= 2
    assert not head.bias.any()


def test_dropout_of_the_papers_attention():
    model = paper(mixer=dict(type='softmax', attn_drop=0.1), drop_path_rate=0.1)
    assert {block.mixer.attn_drop for block in model.blocks} == {0.1}
    x = torch.randn(1, 3, 8, 8)
    model.train()
    assert not torch.equal(model(x)[0], model(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])
