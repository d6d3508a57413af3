"""Blocks: the order of norms, residuals and branches."""

import pytest
import torch
from torch import nn

from xvit_det.layers import MixerBlock, PostNormBlock
from xvit_det.mixers import FourierMixer, SoftmaxAttention


def block_of(kind: type[MixerBlock], **options) -> MixerBlock:
    torch.manual_seed(0)
    block = kind(SoftmaxAttention(8, 2), hidden_dims=12, **options)
    for norm in (block.norm1, block.norm2):
        if isinstance(norm, nn.LayerNorm):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return block


def mlp(block: MixerBlock, x: torch.Tensor) -> torch.Tensor:
    first, _, second = block.mlp
    assert first.out_features == 12
    return second(nn.functional.gelu(first(x)))  # the exact GELU


def test_norms_before_both_branches():
    block = block_of(MixerBlock)
    x = torch.randn(2, 6, 8)
    y = x + block.mixer(block.norm1(x))
    torch.testing.assert_close(block(x, (2, 3)), y + mlp(block, block.norm2(y)))


def test_the_second_norm_on_the_residual_stream():
    block = block_of(PostNormBlock)
    x = torch.randn(2, 6, 8)
    y = block.norm2(x + block.mixer(block.norm1(x)))
    torch.testing.assert_close(block(x, (2, 3)), y + mlp(block, y))


def test_no_norm():
    block = block_of(MixerBlock, norm=nn.Identity)
    x = torch.randn(2, 6, 8)
    y = x + block.mixer(x)
    torch.testing.assert_close(block(x, (2, 3)), y + mlp(block, y))
    assert not any('norm' in name for name, _ in block.named_parameters())


@pytest.mark.parametrize('kind', [MixerBlock, PostNormBlock])
def test_both_branches_are_dropped_alone(kind):
    torch.manual_seed(0)
    block = kind(FourierMixer(8), hidden_dims=12, drop_path_rate=0.5).train()
    x = torch.randn(1, 6, 8)
    seen = {round(block(x, (2, 3))[0, 1, 1].item(), 3) for _ in range(64)}
    assert len(seen) == 4, 'each branch is there or not'
