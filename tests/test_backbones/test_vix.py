"""ViX against its description: what is added, normed and taken out, and in which order."""

import pytest
import torch
from torch import nn

from xvit_det import InputError, ViX, count_parameters
from xvit_det.benchmark.steps import compiler_problem
from xvit_det.layers import ConvStem, OverlapPatchEmbed, PatchEmbed, PatchNormEmbed, PlainConvStem
from xvit_det.mixers import XNormAttention


def paper(**options) -> ViX:
    """A model of the paper's tables at its size, for CIFAR-10 unless said otherwise."""
    torch.manual_seed(0)
    return ViX(**{**dict(arch='paper', mixer='softmax', img_size=32, patch_size=1, out_type='cls_token'), **options})


def test_a_classifier_is_pre_norm_blocks_around_a_class_token():
    model = paper(patch_size=4).eval()
    x = torch.randn(2, 3, 32, 32)
    (entry,) = model.entries
    tokens = entry.stem(x).flatten(2).transpose(1, 2)
    tokens = torch.cat((entry.cls_token.expand(2, 1, 128), tokens), dim=1) + entry.pos_embed.table
    for block in model.blocks:
        tokens = tokens + block.mixer(block.norm1(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens))
    (out,) = model(x)
    torch.testing.assert_close(out, model.norms[0](tokens[:, 0]))


def test_the_class_token_is_left_out_of_maps():
    maps = paper(patch_size=4, out_type='featmap').eval()
    names = set(maps.state_dict())
    assert not any('cls_token' in name or name.startswith('norms') for name in names)
    assert maps.entries[0].pos_embed.table.shape == (1, 64, 128)
    classifier = paper(patch_size=4)
    assert classifier.entries[0].pos_embed.table.shape == (1, 65, 128)
    assert set(classifier.state_dict()) - names == {'entries.0.cls_token', 'norms.0.weight', 'norms.0.bias'}


def test_sizes_and_start_values_of_the_paper():
    model = paper()
    block = model.blocks[0]
    assert count_parameters(model.entries[0].stem) == 512
    assert count_parameters(block.mlp) == 65_920
    assert count_parameters(block) == 132_096
    assert [norm.eps for norm in (block.norm1, block.norm2)] == [1e-5, 1e-5]
    assert model.entries[0].pos_embed.table.std().item() == pytest.approx(1, abs=0.02)
    assert model.entries[0].cls_token.std().item() == pytest.approx(1, abs=0.2)
    assert ViX(arch='tiny', mixer='fourier').entries[0].pos_embed.table.std().item() == pytest.approx(0.02, abs=1e-3)


def test_fnet_has_no_parameters_in_its_mixers():
    assert sum(count_parameters(block.mixer) for block in paper(mixer='fourier').blocks) == 0


def test_an_mlp_mixer_has_neither_class_token_nor_positions():
    model = paper(arch='paper_mixer', mixer='mlp', position='none', out_type='avg_featmap')
    assert count_parameters(model.blocks[0].mixer) == 2_099_200
    assert count_parameters(model.blocks[0]) == 2_132_736
    (out,) = model(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, 128)


def test_the_imagenet_model_of_the_code_has_four_narrow_heads():
    with torch.device('meta'):
        block = ViX(arch='base_4_heads', mixer='softmax', patch_size=16).blocks[0]
    assert block.mixer.qkv.out_features == 3 * 256 and block.mixer.proj.in_features == 256
    assert count_parameters(block) == 5_512_704  # and 132 for Nyström's convolution make the code's 5,512,836


def test_xnorm_takes_the_width_of_the_heads_too():
    with torch.device('meta'):
        mixer = ViX(arch='base_4_heads', mixer='xnorm').blocks[0].mixer
    assert isinstance(mixer, XNormAttention) and mixer.proj.in_features == 256


@pytest.mark.heavy
@pytest.mark.usefixtures('fresh_compiler')
@torch.no_grad()
def test_inductor_compiles_padding_for_all_sizes_at_once():
    """Pixels are filled up to whole patches, and tokens to as many as landmarks need."""
    if problem := compiler_problem('cpu'):
        pytest.skip(problem)
    arch = dict(embed_dims=(16,), depths=(1,), num_heads=(2,), hidden_dims=(32,), head_dims=8)
    arch.update(init_std=0.5, pyramid_indices=(0, 0, 0, 0))
    model = paper(arch=arch, patch_size=8, mixer=dict(type='nystrom', landmarks=4)).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    small, large = torch.randn(2, 3, 41, 50), torch.randn(3, 3, 70, 93)
    torch.testing.assert_close(compiled(small), model(small))
    with torch.compiler.set_stance('fail_on_recompile'):
        torch.testing.assert_close(compiled(large), model(large))


@pytest.mark.parametrize(
    'stem, kind',
    [
        ('patch', PatchEmbed),
        ('conv', PlainConvStem),
        ('deep_conv', ConvStem),
        ('patch_norm', PatchNormEmbed),
        ('overlap', OverlapPatchEmbed),
    ],
)
def test_stems_by_name(stem, kind):
    model = paper(stem=stem, patch_size=8, mixer='fourier', out_type='pyramid').eval()
    assert type(model.entries[0].stem) is kind
    assert [tuple(out.shape[2:]) for out in model(torch.randn(1, 3, 33, 40))] == [(10, 10), (5, 5), (3, 3), (2, 2)]


def test_the_deep_stem_has_the_norms_asked_for():
    model = paper(stem='deep_conv', patch_size=16, norm_cfg=dict(type='GN', num_groups=4), out_type='featmap')
    assert {type(norm) for norm in model.entries[0].stem.norms} == {nn.GroupNorm}


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(position='sine'), "position 'sine' is not one of learned, rotary, axial, none"),
        (
            dict(position='rotary', mixer='fourier'),
            'mixer fourier does not support rotary positions; these do: softmax, performer, linformer',
        ),
        (dict(stem='conv', patch_size=16), 'stride of 1, 2, 4 or 8, not 16; use stem deep_conv'),
        (
            dict(out_type='pyramid', patch_size=14),
            'a map of stride 14 cannot become one of stride 4: the ratio is not a power of two',
        ),
        (dict(arch='huge'), "arch 'huge' is not one of paper, paper_mixer, tiny, small, base, base_4_heads"),
        (
            dict(arch=dict(ViX.arch_zoo['tiny'], **{k: (8, 8) for k in ViX.per_stage})),
            r'ViX has 1 stage, not depths=\(8, 8\)',
        ),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(options, message):
    with pytest.raises(InputError, match=message):
        paper(**{'img_size': 224, **options})
