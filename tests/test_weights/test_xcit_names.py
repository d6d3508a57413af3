"""XCiT's files, as its authors, timm and mmpretrain write them: recognised, and translated to the same weights."""

import pytest
import timm
import torch
from mmpretrain.models.backbones import XCiT
from timm.models.xcit import checkpoint_filter_fn
from torch import Tensor, nn

from xvit_det import InputError, XViT, list_models
from xvit_det.backbones.xvit_archs import XCIT as ARCHS
from xvit_det.weights.families import XCIT
from xvit_det.weights.translate import translate

WIDTH, DEPTH = 32, 3


def build(patch_size: int = 16) -> nn.Module:
    torch.manual_seed(0)
    model = timm.models.xcit.Xcit(
        embed_dim=WIDTH, depth=DEPTH, num_heads=4, num_classes=10, patch_size=patch_size, tokens_norm=True
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def as_authors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their released classifiers have q, k and v of class attention in one, and another name for the position."""
    theirs = {}
    for name, weight in weights.items():
        name = name.replace('pos_embed.', 'pos_embeder.')
        if '.attn.q.' in name:
            weight = torch.cat([weights[name.replace('.q.', f'.{part}.')] for part in 'qkv'])
            name = name.replace('.q.', '.qkv.')
        if '.attn.k.' not in name and '.attn.v.' not in name:
            theirs[name] = weight
    return theirs


def as_detector(weights: dict[str, Tensor], patch_size: int) -> dict[str, Tensor]:
    """The backbone in their Mask R-CNN: no class token, and a pyramid of transposed convolutions."""
    theirs = {
        f'backbone.{name}': weight
        for name, weight in as_authors(weights).items()
        if not name.startswith(('cls_', 'norm', 'head'))
    }
    torch.manual_seed(1)
    for name in {16: ('fpn1.0', 'fpn1.3', 'fpn2.0'), 8: ('fpn1.0',)}[patch_size]:
        theirs[f'backbone.{name}.weight'] = torch.randn(WIDTH, WIDTH, 2, 2)
        theirs[f'backbone.{name}.bias'] = torch.randn(WIDTH)
    if patch_size == 16:
        norm = nn.BatchNorm2d(WIDTH)
        theirs |= {
            f'backbone.fpn1.1.{name}': torch.randn_like(w.float()).to(w) for name, w in norm.state_dict().items()
        }
    return theirs | {
        'neck.lateral_convs.0.conv.bias': torch.ones(4),
        'roi_head.mask_head.conv_logits.bias': torch.ones(4),
    }


def test_authors_files_are_those_that_timm_reads():
    model = build()
    back = checkpoint_filter_fn(dict(model=as_authors(model.state_dict())), model)
    assert all(torch.equal(back[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize('prefix', ['', 'module.', 'backbone.', 'module.backbone.'])
@pytest.mark.parametrize('write', [dict, as_authors])
def test_every_form_of_a_classifier_becomes_the_same(write, prefix):
    weights = build().state_dict()
    expected, _ = translate(weights)
    theirs = {f'module.{n}' if n.startswith('head.') and prefix else prefix + n: w for n, w in write(weights).items()}
    if prefix in ('', 'backbone.'):
        theirs = {name.replace('module.head', 'head'): weight for name, weight in theirs.items()}
    ours, source = translate(theirs)
    assert str(source) == 'XCiT 3 blocks of width 32, patch 16, classifier'
    assert set(ours) == set(expected) and all(torch.equal(ours[name], weight) for name, weight in expected.items())


def test_class_attention_gets_its_own_q_k_and_v():
    """k and v have one shape: exchanged, they load in silence."""
    weights = build().state_dict()
    ours, _ = translate(as_authors(weights))
    k, v = ours['backbone.class_blocks.1.attn.kv.weight'].chunk(2)
    for part, ours_part in (('q', ours['backbone.class_blocks.1.attn.q.weight']), ('k', k), ('v', v)):
        assert torch.equal(ours_part, weights[f'cls_attn_blocks.1.attn.{part}.weight'])


def test_the_second_and_third_branch_change_places():
    """Their norm3 is the local patch interaction's, their norm2 the MLP's: equal shapes again."""
    weights = build().state_dict()
    ours, _ = translate(weights)
    assert torch.equal(ours['backbone.blocks.1.norm2.weight'], weights['blocks.1.norm3.weight'])
    assert torch.equal(ours['backbone.blocks.1.affine2.alpha'], weights['blocks.1.gamma3'])
    assert torch.equal(ours['backbone.blocks.1.norm3.bias'], weights['blocks.1.norm2.bias'])
    assert torch.equal(ours['backbone.blocks.1.affine3.alpha'], weights['blocks.1.gamma2'])


@pytest.mark.parametrize('patch_size', [16, 8])
def test_a_detectors_backbone_is_complete(patch_size):
    ours, source = translate(as_detector(build(patch_size).state_dict(), patch_size))
    assert str(source) == f'XCiT 3 blocks of width 32, patch {patch_size}, Mask R-CNN'
    arch = dict(embed_dims=WIDTH, depth=DEPTH, attn_dims=WIDTH, num_heads=4, mlp_ratio=4, num_class_layers=2)
    model = XViT(
        arch=arch | dict(layer_scale=1.0),
        mixer='xca',
        patch_size=patch_size,
        out_indices=(0, 1, 2),
        out_strides=(4, 8, 16),
    )
    backbone = {name.removeprefix('backbone.') for name in ours if name.startswith('backbone.')}
    assert backbone == set(model.state_dict())
    assert {name for name in ours if not name.startswith('backbone.')} == {
        'neck.lateral_convs.0.conv.bias',
        'roi_head.mask_head.conv_logits.bias',
    }


@pytest.mark.parametrize('patch_size', [16, 8])
@pytest.mark.parametrize('size', XCIT.sizes.values())
def test_variants_are_recognised(size, patch_size):
    with torch.device('meta'):
        weights = timm.create_model(f'xcit_{size}_p{patch_size}_224').state_dict()
        detector = as_detector(weights, patch_size)
    assert translate(weights)[1].config == f'xcit_{size}_p{patch_size}_in1k'
    assert translate(detector)[1].config == f'mask_rcnn_xcit_{size}_p{patch_size}_3x'


@pytest.mark.parametrize(
    ('name', 'config'),
    [
        ('decode_head.scale_heads.0.0.conv.weight', 'semantic_fpn_xcit_small_24_p8_ade20k_80k'),
        ('decode_head.psp_modules.0.1.conv.weight', 'upernet_xcit_small_24_p8_ade20k_160k'),
    ],
)
def test_segmentors_are_recognised(name, config):
    with torch.device('meta'):
        weights = as_detector(timm.create_model('xcit_small_24_p8_224').state_dict(), 8)
    weights = {key: weight for key, weight in weights.items() if not key.startswith('roi_head.')} | {
        name: torch.ones(1)
    }
    ours, source = translate(weights)
    assert source.config == config in list_models() and name in ours


def test_sizes_are_those_of_the_archs():
    assert XCIT.sizes == {(arch['embed_dims'], arch['depth']): name for name, arch in ARCHS.items()}


def test_mmpretrains_names():
    with torch.device('meta'):
        weights = XCiT(embed_dims=WIDTH, depth=DEPTH, num_heads=4).state_dict()
        theirs = build().state_dict()
    shapes = {name: weight.shape for name, weight in translate(theirs)[0].items() if not name.startswith('head.')}
    ours = translate({f'backbone.{name}': weight for name, weight in weights.items()})[0]
    assert {name: weight.shape for name, weight in ours.items()} == shapes


def test_a_name_of_another_model_is_refused():
    weights = build().state_dict()
    weights['blocks.0.attn.relative_position'] = torch.zeros(3)
    with pytest.raises(
        InputError, match=r'but 1 of them have no place in that model, such as blocks\.0\.attn\.relative'
    ):
        translate(weights)
    del weights['blocks.0.attn.relative_position'], weights['blocks.0.norm1.weight']
    with pytest.raises(InputError, match='look like XCiT, but have no norm in front of the first attention'):
        translate(weights)
