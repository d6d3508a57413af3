"""X-ViT against the figures of its paper and its derived table."""

import pytest
import torch
from torch import nn

from xvit_det import XViT, count_macs, count_parameters
from xvit_det.backbones.xvit import pyramid_indices
from xvit_det.errors import InputError
from xvit_det.layers import Affine

# arch: classifier's parameters with 1000 classes, backbone's without and with the pyramid, GMACs at 224 and at 384
TABLE = {
    'tiny': (10_207_184, 9_270_360, 9_270_360 + 443_328, 1.896, None),
    'small': (20_753_016, 17_602_800, 17_602_800 + 1_771_392, 3.717, None),
    'medium': (37_457_208, 34_306_992, 34_306_992 + 1_771_392, 6.979, 20.50),
    'base': (63_957_704, 58_709_440, 58_709_440 + 3_148_288, 11.940, 35.08),
}
# What the paper prints: millions of parameters, GMACs at 224, GMACs at 384.
PAPER = {
    'tiny': ('10', '1.9', None),
    'small': ('21', '3.7', None),
    'medium': ('37', '7.0', '20.5'),
    'base': ('64', '11.9', '35.1'),
}
PARTS = {
    'tiny': dict(stem=219_096, position=12_480, block=376_616, attn=74_216, lpi=4_224, mlp=295_872, cls=743_248),
    'small': dict(
        stem=873_648, position=24_960, block=1_392_016, attn=197_392, lpi=8_448, mlp=1_181_568, cls=2_764_064
    ),
    'base': dict(
        stem=1_551_936, position=33_280, block=2_380_176, attn=263_056, lpi=11_264, mlp=2_099_712, cls=4_733_728
    ),
}


class Classifier(nn.Module):
    def __init__(self, arch: str) -> None:
        super().__init__()
        self.backbone = XViT(arch=arch, out_type='cls_token')
        self.head = nn.Linear(self.backbone.embed_dims, 1000)

    def forward(self, x):
        return self.head(self.backbone(x)[0])


@pytest.mark.parametrize('arch', TABLE)
def test_parameters_and_macs_are_the_papers(arch):
    total, plain, pyramid, gmacs, gmacs_384 = TABLE[arch]
    with torch.device('meta'):
        classifier = Classifier(arch)
        assert count_parameters(classifier) == total
        assert count_parameters(XViT(arch=arch, out_type='featmap')) == plain
        assert count_parameters(XViT(arch=arch)) == pyramid
        assert count_parameters(XViT(arch=arch[0])) == pyramid
    assert f'{total / 1e6:.0f}' == PAPER[arch][0]
    for size, expected, printed in ((224, gmacs, PAPER[arch][1]), (384, gmacs_384, PAPER[arch][2])):
        if expected:
            measured = count_macs(classifier, size) / 1e9
            assert measured == pytest.approx(expected, rel=0.005)
            assert f'{measured:.1f}' == printed


@pytest.mark.parametrize('arch', PARTS)
def test_parameters_of_the_parts(arch):
    with torch.device('meta'):
        model = XViT(arch=arch, out_type='cls_token')
    block, parts = model.blocks[0], PARTS[arch]
    measured = dict(
        stem=model.stem,
        position=model.pos_embed,
        block=block,
        attn=block.attn,
        lpi=block.lpi,
        mlp=block.mlp,
        cls=model.class_blocks,
    )
    assert {name: count_parameters(part) for name, part in measured.items()} == parts


def test_cost_is_linear_in_tokens():
    model = XViT(arch='tiny', out_type='featmap')
    tokens = [14 * 14, 28 * 28, 56 * 56, 50 * 84]
    macs = [count_macs(model, size) for size in (224, 448, 896, (800, 1344))]
    per_token = [m / n for m, n in zip(macs, tokens, strict=True)]
    assert max(per_token) / min(per_token) < 1.001


def test_defaults_of_the_paper():
    assert pyramid_indices(12) == (3, 5, 7, 11)
    assert pyramid_indices(24) == (7, 11, 15, 23)
    assert all(len(set(pyramid_indices(depth))) == 4 for depth in range(4, 40))
    with pytest.raises(InputError, match='at least four blocks, not depth=3'):
        pyramid_indices(3)
    with torch.device('meta'):
        for arch, alpha in (('small', 1.0), ('medium', 1e-5)):
            with torch.device('cpu'):
                block = XViT(arch=dict(XViT.arch_zoo[arch], depth=4), drop_path_rate=0.1).blocks[-1]
            assert (block.affine1.alpha == alpha).all() and (block.affine3.beta == 0).all()
            assert (block.attn.gamma_q == 1).all() and (block.attn.gamma_kv == 1).all()
            assert block.drop_path.rate == 0.1, 'the same at every depth'
            assert block.norm1.eps == 1e-6


def test_options_reach_their_parts():
    arch = dict(XViT.arch_zoo['tiny'], depth=4)
    model = XViT(arch=arch, out_type='cls_token', position=False, kv_axis=-1, gamma=None, layer_scale=0.25)
    assert model.pos_embed is None
    assert model.blocks[0].attn.kv_axis == -1 and model.class_blocks[0].attn.kv_axis == -1
    assert not any('gamma' in name for name, _ in model.named_parameters())
    affines = [module for module in model.modules() if isinstance(module, Affine)]
    assert len(affines) == 4 * 3 + 2 * 2 and all((affine.alpha == 0.25).all() for affine in affines)
    assert XViT(arch=arch, in_channels=1).eval()(torch.randn(1, 1, 32, 32))[2].shape == (1, 192, 2, 2)
