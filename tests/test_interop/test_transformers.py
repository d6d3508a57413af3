"""The models of transformers: what its conventions ask, and that it is our model."""

import json
import os
import subprocess
import sys

import pytest
import torch
import transformers
from torch import nn

import xvit_det
from xvit_det.errors import InputError
from xvit_det.interop.transformers import XViTBackbone, XViTConfig, XViTForImageClassification

BODY = dict(embed_dims=64, depth=4, attn_dims=32, num_heads=2, mlp_ratio=2, num_class_layers=2, layer_scale=1.0)
LEVELS = ['stage2', 'stage3', 'stage4']


def classifier(**options) -> XViTForImageClassification:
    torch.manual_seed(0)
    return XViTForImageClassification(XViTConfig(arch=BODY, num_labels=5, **options)).eval()


def backbone(**options) -> XViTBackbone:
    torch.manual_seed(0)
    return XViTBackbone(XViTConfig(arch=BODY, **options)).eval()


@pytest.mark.parametrize('arch', ['tiny', 'small', 'medium', 'base', 's'])
def test_sizes(arch):
    config = XViTConfig(arch=arch)
    with torch.device('meta'):
        model, ours = XViTBackbone(config), xvit_det.XViT(arch=arch, out_strides=32)
    assert {n.removeprefix('backbone.') for n in model.state_dict()} == set(ours.state_dict())
    assert config.hidden_size == ours.embed_dims == model.channels[0]


@torch.no_grad()
def test_maps_are_those_of_the_backbone():
    model, x = backbone(out_features=['stage1', *LEVELS]), torch.randn(2, 3, 96, 64)
    ours = xvit_det.XViT(arch=BODY).eval()
    ours.load_state_dict(model.backbone.state_dict())
    output = model(x, output_hidden_states=True)
    for got, want in zip(output.feature_maps, ours(x), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert output.hidden_states is output.feature_maps
    assert [tuple(m.shape[-2:]) for m in output.feature_maps] == [(24, 16), (12, 8), (6, 4), (3, 2)]
    assert isinstance(model(x, return_dict=False), tuple)


@torch.no_grad()
def test_stages_by_name_and_number():
    by_name, by_number = backbone(out_features=['stage2', 'stage4']), backbone(out_indices=[1, 3])
    assert by_name.out_indices == [1, 3] and by_number.out_features == ['stage2', 'stage4']
    assert by_name.channels == [64, 64]
    assert [m.shape[-1] for m in by_name(torch.randn(1, 3, 64, 64)).feature_maps] == [8, 2]
    assert backbone().out_features == ['stage4']
    with pytest.raises(ValueError, match='stage5'):
        XViTConfig(out_features=['stage5'])


@torch.no_grad()
def test_logits_are_those_of_backbone_and_classifier():
    model, x = classifier(), torch.randn(2, 3, 64, 96)
    ours = xvit_det.XViT(arch=BODY, out_type='cls_token').eval()
    ours.load_state_dict(model.backbone.state_dict())
    output = model(x, labels=torch.tensor([1, 4]))
    torch.testing.assert_close(output.logits, model.classifier(ours(x)[0]), rtol=0, atol=0)
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(output.logits, torch.tensor([1, 4])))


@pytest.mark.parametrize('make', [classifier, lambda: backbone(out_features=LEVELS)])
@torch.no_grad()
def test_saved_and_read_again_it_is_bit_equal(make, tmp_path):
    model, x = make(), torch.randn(1, 3, 64, 64)
    model.save_pretrained(tmp_path)
    other = type(model).from_pretrained(tmp_path, local_files_only=True)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0, msg=name)
    for parameter in other.parameters():  # read from a file they are not aligned, which changes the order of sums
        parameter.data = parameter.data.clone()
    torch.testing.assert_close(other(x)[0], model(x)[0], rtol=0, atol=0)
    assert json.loads((tmp_path / 'config.json').read_text())['model_type'] == 'xvit'


def test_a_new_process_reads_it_by_the_auto_classes(tmp_path):
    model = classifier(id2label={i: f'class {i}' for i in range(5)})
    model.save_pretrained(tmp_path)
    code = (
        'import torch, xvit_det.interop.transformers\n'
        'from transformers import AutoBackbone, AutoConfig, AutoModelForImageClassification\n'
        f'model = AutoModelForImageClassification.from_pretrained({str(tmp_path)!r}, local_files_only=True)\n'
        'print(model.config.id2label[3], *model(torch.ones(1, 3, 64, 64)).logits[0].tolist())\n'
        f'config = AutoConfig.from_pretrained({str(tmp_path)!r}, out_features=["stage1"], local_files_only=True)\n'
        'print(AutoBackbone.from_config(config).channels)\n'
    )
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}  # transformers lies in a folder of its own
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, check=True)
    logits, *_, channels = run.stdout.splitlines()  # and a line of mmengine's
    with torch.no_grad():
        want = model(torch.ones(1, 3, 64, 64)).logits[0]
    assert logits.startswith('class 3 ') and channels == '[64]'
    torch.testing.assert_close(torch.tensor([float(text) for text in logits.split()[2:]]), want)


def test_what_a_checkpoint_lacks_starts_as_in_a_new_model(tmp_path):
    """From a classifier's weights, a detector's backbone takes the blocks; only its pyramid is new."""
    trained = classifier()
    trained.save_pretrained(tmp_path)
    model, info = XViTBackbone.from_pretrained(
        tmp_path, out_features=LEVELS, output_loading_info=True, local_files_only=True
    )
    assert info['missing_keys'] and all('.pyramid.' in name for name in info['missing_keys'])
    torch.testing.assert_close(model.state_dict()['backbone.blocks.3.attn.qkv.weight'],
                               trained.state_dict()['backbone.blocks.3.attn.qkv.weight'])  # fmt: skip
    new = xvit_det.XViT(arch=BODY, out_strides=(8, 16, 32))
    for name, value in new.named_parameters():
        got = model.backbone.get_parameter(name)
        assert got.isfinite().all() and not got.is_meta
        if name.startswith('pyramid.'):  # random weights of equal spread
            torch.testing.assert_close(got.std(), value.std(), rtol=0.2, atol=1e-6)
            torch.testing.assert_close(got.mean(), value.mean(), rtol=0.2, atol=5e-3)
    torch.testing.assert_close(model.backbone.pos_embed.frequencies, new.pos_embed.frequencies)


def test_another_number_of_classes_starts_a_new_classifier(tmp_path):
    classifier().save_pretrained(tmp_path)
    model = XViTForImageClassification.from_pretrained(
        tmp_path, num_labels=7, ignore_mismatched_sizes=True, local_files_only=True
    )
    assert model(torch.randn(1, 3, 64, 64)).logits.shape == (1, 7)
    assert 0.01 < model.classifier.weight.std() < 0.03 and not model.classifier.bias.any()


def test_a_new_model_has_our_start_values():
    """transformers' own initialization of linear layers, convolutions and norms must not touch it."""
    model = classifier()
    torch.manual_seed(0)
    ours = xvit_det.XViT(arch=BODY, out_type='cls_token')
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(model.backbone.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_a_checkpoint_of_our_configs_loads():
    model, other = classifier(), classifier()
    weights = {n.replace('classifier.', 'head.fc.'): w + 0.1 for n, w in model.state_dict().items()}
    other.load_state_dict(weights)
    torch.testing.assert_close(other.classifier.weight, model.classifier.weight + 0.1)


def test_gradient_checkpointing_changes_no_gradient():
    model, x = classifier().train(), torch.randn(2, 3, 64, 64)
    gradients = []
    for enable in (False, True):
        if enable:
            model.gradient_checkpointing_enable()
            assert model.backbone.with_cp
        model.zero_grad()
        model(x, labels=torch.tensor([0, 1])).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def rt_detr(config: XViTConfig) -> nn.Module:
    size = dict(encoder_in_channels=[64] * 3, encoder_hidden_dim=32, d_model=32, decoder_in_channels=[32] * 3)
    small = dict(encoder_ffn_dim=32, decoder_ffn_dim=32, decoder_layers=2, num_queries=20, num_labels=4)
    return transformers.RTDetrForObjectDetection(
        transformers.RTDetrConfig(backbone_config=config, num_denoising=5, **size, **small)
    )


def d_fine(config: XViTConfig) -> nn.Module:
    size = dict(encoder_in_channels=[64] * 3, encoder_hidden_dim=32, d_model=32, decoder_in_channels=[32] * 3)
    small = dict(encoder_ffn_dim=32, decoder_ffn_dim=32, decoder_layers=2, num_queries=20, num_labels=4)
    return transformers.DFineForObjectDetection(
        transformers.DFineConfig(backbone_config=config, num_denoising=5, **size, **small)
    )


def mask2former(config: XViTConfig) -> nn.Module:
    config = XViTConfig(**config.to_dict() | dict(out_features=['stage1', *LEVELS], out_indices=None))
    small = dict(feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32, dim_feedforward=32)
    return transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(
            backbone_config=config, encoder_layers=1, decoder_layers=2, num_queries=10, num_labels=4, **small
        )
    )


@pytest.mark.parametrize('make', [rt_detr, d_fine, mask2former])
def test_training_step_of_a_detector(make, tmp_path):
    torch.manual_seed(0)
    model = make(XViTConfig(arch=BODY, out_features=LEVELS)).train()
    x = torch.randn(2, 3, 128, 128)
    if make is mask2former:
        targets = dict(
            mask_labels=[(torch.rand(3, 128, 128) > 0.5).float()] * 2, class_labels=[torch.tensor([0, 1, 2])] * 2
        )
    else:
        boxes = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.6, 0.6, 0.3, 0.2]])
        targets = dict(labels=[dict(class_labels=torch.tensor([0, 3]), boxes=boxes)] * 2)
    model(x, **targets).loss.backward()
    ours = next(module for module in model.modules() if isinstance(module, xvit_det.XViT))
    without = [name for name, p in ours.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, without
    model.eval()
    model.save_pretrained(tmp_path)
    other = type(model).from_pretrained(tmp_path, local_files_only=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(other(x)[1], model(x)[1], rtol=0, atol=0)


def test_wrong_values_are_one_sentence():
    with pytest.raises(InputError, match="arch 'huge'"):
        XViTBackbone(XViTConfig(arch='huge'))
    with pytest.raises(InputError, match='patch_size=7 is not one of 16, 8|patch_size=7 is not one of 8, 16'):
        XViTBackbone(XViTConfig(arch=BODY, patch_size=7))
    with pytest.raises(InputError, match='gives no hidden states'):
        classifier()(torch.randn(1, 3, 64, 64), output_hidden_states=True)
    with pytest.raises(InputError, match='input shape'):
        backbone()(torch.randn(1, 4, 64, 64))
