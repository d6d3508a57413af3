"""Whichever way another project's file is loaded: its weights are in the model, or a sentence says why not."""

import logging
from pathlib import Path

import pytest
import timm
import torch
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from mmpretrain.models import build_classifier
from torch import nn

import xvit_det
from xvit_det import InputError, ViX, XViT
from xvit_det.backbones import load_pretrained, pretrained
from xvit_det.config.weights_check import check_checkpoint
from xvit_det.weights.files import write_weights
from xvit_det.weights.translate import translate

ARCH = dict(
    embed_dims=32,
    depth=4,
    attn_dims=32,
    num_heads=2,
    mlp_ratio=4,
    num_class_layers=2,
    layer_scale=1.0,
    class_block='xcit',
    tokens_norm=True,
    ceil_pool=False,
)
CFG = dict(type='XViT', arch=ARCH, mixer='xca', out_type='cls_token')


@pytest.fixture
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return timm.models.xcit.Xcit(embed_dim=32, depth=4, num_heads=2, num_classes=10, tokens_norm=True).eval()


@pytest.fixture
def path(theirs, tmp_path) -> str:
    torch.save(dict(model=theirs.state_dict()), tmp_path / 'theirs.pth')
    return str(tmp_path / 'theirs.pth')


def by_init_cfg(path: str) -> nn.Module:
    model = MODELS.build(dict(CFG, init_cfg=dict(type='Pretrained', checkpoint=path)))
    model.init_weights()
    return model


def by_init_cfg_with_a_prefix(path: str) -> nn.Module:
    model = MODELS.build(dict(CFG, init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.')))
    model.init_weights()
    return model


def by_load_pretrained(path: str) -> nn.Module:
    model = MODELS.build(CFG)
    assert not load_pretrained(model, path)['missing']
    return model


def by_load_state_dict(path: str) -> nn.Module:
    model = MODELS.build(CFG)
    weights = torch.load(path)['model']
    model.load_state_dict({name: weight for name, weight in weights.items() if not name.startswith('head.')})
    return model


def by_load_state_dict_of_a_wrapper(path: str) -> nn.Module:
    model = MODELS.build(CFG)
    weights = {f'backbone.{name}': weight for name, weight in torch.load(path)['model'].items()}
    nn.ModuleDict(dict(backbone=model)).load_state_dict(weights, strict=False)
    return model


def by_safetensors_and_mmengine(path: str) -> nn.Module:
    weights = {f'backbone.{name}': weight for name, weight in torch.load(path)['model'].items()}
    file = path.replace('.pth', '.safetensors')
    write_weights(Path(file), weights, {})
    model = nn.ModuleDict(dict(backbone=MODELS.build(CFG)))
    load_checkpoint(model, file)
    return model['backbone']


LOADERS = [
    by_init_cfg,
    by_init_cfg_with_a_prefix,
    by_load_pretrained,
    by_load_state_dict,
    by_load_state_dict_of_a_wrapper,
    by_safetensors_and_mmengine,
]


@pytest.mark.parametrize('load', LOADERS)
@torch.no_grad()
def test_the_weights_are_the_files(load, path, theirs):
    model, x = load(path).eval(), torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(model(x)[0], theirs.forward_features(x)[:, 0], rtol=1e-5, atol=1e-5)


def test_what_is_not_understood_is_reported(path, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(pretrained, 'print_log', lambda text, logger, level=logging.INFO: lines.append(text))
    load_pretrained(MODELS.build(CFG), path)
    assert any('XCiT 4 blocks of width 32, patch 16, classifier: its names are translated' in line for line in lines)
    weights = torch.load(path)['model']
    torch.save({**weights, 'head.mlp.0.weight': torch.zeros(2)}, tmp_path / 'dino.pth')  # as DINO's training
    report = load_pretrained(nn.ModuleDict(dict(backbone=MODELS.build(CFG))), tmp_path / 'dino.pth')
    assert set(report['unexpected']) == {'head.mlp.0.weight', 'head.fc.weight', 'head.fc.bias'}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(mixer='xnorm'), r'has no place for blocks\.0\.attn\.temperature'),
        (dict(mixer='nystrom'), r'has no place for blocks\.0\.attn\.qkv\.bias'),
        (dict(arch=ARCH | dict(class_block='xvit')), "has X-ViT's class attention, .* set class_block='xcit'"),
        (dict(patch_size=8), r'has no place for stem\.convs\.3\.weight'),
        (dict(position=False), r'has no place for pos_embed\.proj'),
        (dict(arch=ARCH | dict(depth=3)), 'with 4 blocks, and this XViT has 3'),
        (dict(arch=ARCH | dict(depth=5)), 'with 4 blocks, and this XViT has 5'),
    ],
)
@pytest.mark.parametrize('load', ['load_pretrained', 'load_state_dict', 'check_checkpoint'])
def test_another_model_is_refused(load, change, message, path):
    model = MODELS.build(CFG | change)
    with pytest.raises(InputError, match=message):
        if load == 'load_pretrained':
            load_pretrained(model, path)
        elif load == 'load_state_dict':
            model.load_state_dict(torch.load(path)['model'], strict=False)
        else:
            check_checkpoint(nn.ModuleDict(dict(backbone=model)), path, complete=False)


def test_a_vision_transformer_without_biases_is_refused(tmp_path):
    theirs = timm.models.VisionTransformer(img_size=32, embed_dim=32, depth=2, num_heads=2, num_classes=10)
    torch.save(theirs.state_dict(), tmp_path / 'vit.pth')
    arch = dict(embed_dims=(32,), depths=(2,), num_heads=(2,), head_dims=16, hidden_dims=(128,), pyramid_indices=())
    model = ViX(arch=arch | dict(init_std=1.0), mixer='softmax', img_size=32, out_type='cls_token')
    with pytest.raises(InputError, match=r'has no place for blocks\.0\.mixer\.qkv\.bias and 1 more'):
        load_pretrained(model, tmp_path / 'vit.pth')


def test_blocks_that_are_not_built_are_no_other_model(path):
    model = MODELS.build(CFG | dict(out_type='featmap', out_indices=(1,)))
    report = load_pretrained(model, path)
    assert not report['missing'] and 'blocks.2.norm1.weight' in report['unexpected']


def test_another_projects_model_keeps_its_names(tmp_path, capsys):
    """With stock configs our commands load stock files as MMEngine does."""
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', arch='deit-tiny', img_size=32),
        head=dict(type='VisionTransformerClsHead', num_classes=10, in_channels=192),
    )
    model = build_classifier(dict(cfg, _scope_='mmpretrain'))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'stock.pth')
    check_checkpoint(model, str(tmp_path / 'stock.pth'))
    report = load_pretrained(model, tmp_path / 'stock.pth')
    assert not report['missing'] and not report['unexpected']


def test_a_teacher_in_a_file_of_ours_is_left_alone(theirs):
    """Distillation keeps a frozen model of another project beside ours."""
    weights = {f'teacher.backbone.{name}': weight for name, weight in theirs.state_dict().items()}
    weights |= {f'backbone.{name}': weight for name, weight in XViT(arch='tiny').state_dict().items()}
    assert translate(weights) == (weights, None)


def test_create_model_starts_a_detector_from_a_classifier(tmp_path):
    with torch.random.fork_rng():
        theirs = timm.create_model('xcit_tiny_12_p16_224')
    torch.save(dict(model=theirs.state_dict()), tmp_path / 'w.pth')
    model = xvit_det.create_model('mask_rcnn_xcit_tiny_12_p16_3x', pretrained=tmp_path / 'w.pth')
    assert torch.equal(model.backbone.blocks[5].norm3.weight, theirs.blocks[5].norm2.weight)
    assert torch.equal(model.backbone.stem.convs[3].weight, theirs.patch_embed.proj[6][0].weight)
