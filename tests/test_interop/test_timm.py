"""What timm's own tests ask of every registered model, and that it is our model."""

import pytest
import timm
import torch

import xvit_det
import xvit_det.interop.timm  # noqa: F401
from xvit_det.analysis import count_parameters

NAMES = ['xvit_tiny', 'xvit_small', 'xvit_medium', 'xvit_base']
BODY = dict(embed_dims=64, depth=4, attn_dims=32, num_heads=2, mlp_ratio=2, num_class_layers=2, layer_scale=1.0)


def small(**options) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model('xvit_small', arch=BODY, **options).eval()


@pytest.mark.parametrize('name', NAMES)
def test_every_registered_name_is_our_model(name):
    assert timm.list_models('xvit_*') == sorted([*NAMES, *(f'{n}_pyramid' for n in NAMES)])
    with torch.device('meta'):
        model = timm.create_model(name)
        ours = xvit_det.XViT(arch=name.removeprefix('xvit_'), out_type='cls_token')
    head = model.num_features * 1000 + 1000
    assert count_parameters(model) == count_parameters(ours) + head
    assert set(model.state_dict()) == {*ours.state_dict(), 'head.weight', 'head.bias'}
    cfg = model.default_cfg
    for part in (cfg['classifier'], cfg['first_conv']):
        assert f'{part}.weight' in model.state_dict()
    assert model.num_classes == 1000 and model.num_features == model.head_hidden_size == ours.embed_dims


@torch.no_grad()
def test_scores_are_those_of_backbone_and_head():
    model, x = small(), torch.randn(2, 3, 64, 96)
    ours = xvit_det.XViT(arch=BODY, out_type='cls_token').eval()
    weights = model.state_dict()
    ours.load_state_dict({name: weights[name] for name in ours.state_dict()})
    torch.testing.assert_close(model(x), model.head(ours(x)[0]), rtol=0, atol=0)
    model.set_grad_checkpointing()
    torch.testing.assert_close(model.train()(x), model.train()(x.clone()))


def test_every_parameter_gets_a_gradient():
    model = small(num_classes=42).train()
    model.set_grad_checkpointing()
    scores = model(torch.randn(2, 3, 64, 64))
    scores.mean().backward()
    assert scores.shape == (2, 42)
    assert all(parameter.grad is not None for parameter in model.parameters())


@torch.no_grad()
def test_head_and_pooling_can_be_replaced():
    model, x = small(), torch.randn(2, 3, 64, 64)
    tokens = model.forward_features(x)
    before = model.forward_head(tokens, pre_logits=True)
    assert tokens.shape == (2, 17, 64) and before.shape == (2, 64) and model.get_classifier() is model.head
    model.reset_classifier(0)
    assert model.num_classes == 0
    torch.testing.assert_close(model(x), before)
    model.reset_classifier(0, '')
    torch.testing.assert_close(model(x), tokens)
    model.reset_classifier(7, 'avg')
    assert model(x).shape == (2, 7)
    torch.testing.assert_close(model.forward_head(tokens, pre_logits=True), tokens[:, 1:].mean(1))
    assert small(num_classes=0, global_pool='')(x).shape == (2, 17, 64)


@pytest.mark.parametrize('in_chans', [1, 4])
def test_other_channels(in_chans):
    assert small(in_chans=in_chans)(torch.randn(1, in_chans, 64, 64)).shape == (1, 1000)


@torch.no_grad()
def test_intermediates():
    model, x = small(), torch.randn(2, 3, 64, 96)
    info = timm.models.FeatureInfo(model.feature_info, len(model.feature_info))
    last, maps = model.forward_intermediates(x)
    torch.testing.assert_close(last, model.forward_features(x))
    assert [tuple(m.shape) for m in maps] == [(2, c, 4, 6) for c in info.channels()]
    assert set(info.reduction()) == {16}
    (tokens,) = model.forward_intermediates(x, [1], output_fmt='NLC', intermediates_only=True, stop_early=True)
    torch.testing.assert_close(tokens, maps[1].flatten(2).transpose(1, 2))  # (B, d, h, w) -> (B, N, d)
    (normed,) = model.forward_intermediates(x, 1, norm=True, output_fmt='NLC', intermediates_only=True)
    torch.testing.assert_close(normed, last[:, 1:])
    with pytest.raises(xvit_det.errors.InputError, match="output_fmt 'NHWC' is not one of NCHW, NLC"):
        model.forward_intermediates(x, output_fmt='NHWC')


@torch.no_grad()
def test_features_only():
    x = torch.randn(1, 3, 64, 64)
    features = timm.create_model('xvit_small', arch=BODY, features_only=True, out_indices=(0, 2)).eval()
    assert features.feature_info.channels() == [64, 64] and features.feature_info.reduction() == [16, 16]
    assert [tuple(m.shape) for m in features(x)] == [(1, 64, 4, 4)] * 2
    # Nothing is kept that these maps do not need.
    names = {name.split('.')[1] for name, _ in features.named_parameters()}
    assert len([n for n, _ in features.named_modules() if n.endswith('.mlp')]) == 3
    assert not names & {'class_blocks', 'head'}
    assert len(timm.create_model('xvit_tiny', features_only=True).feature_info.channels()) == 4


def test_a_checkpoint_of_our_configs_loads(tmp_path):
    model, x = small(num_classes=5), torch.randn(1, 3, 64, 64)
    renamed = {
        name.replace('head.', 'head.fc.') if name.startswith('head.') else f'backbone.{name}': weight
        for name, weight in model.state_dict().items()
    }
    torch.save(dict(state_dict=renamed), tmp_path / 'epoch_1.pth')
    other = timm.create_model('xvit_small', arch=BODY, num_classes=5, checkpoint_path=str(tmp_path / 'epoch_1.pth'))
    torch.testing.assert_close(other.eval()(x), model(x), rtol=0, atol=0)


@torch.no_grad()
def test_xcits_weights_give_timms_scores(tmp_path):
    theirs = timm.create_model('xcit_nano_12_p16_224').eval()
    torch.save(theirs.state_dict(), tmp_path / 'xcit.pth')
    path = str(tmp_path / 'xcit.pth')
    ours = timm.create_model('xvit_tiny', arch='nano_12', mixer='xca', checkpoint_path=path).eval()
    x = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_layers_for_learning_rate_decay():
    from timm.optim import param_groups_layer_decay

    model = small()
    groups = param_groups_layer_decay(
        model, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    )
    scales = sorted({group['lr_scale'] for group in groups})
    assert len(scales) == 1 + 4 + 2 + 1 and scales[-1] == 1  # stem, blocks, class blocks, head
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))


def test_wrong_values():
    with pytest.raises(xvit_det.errors.InputError, match="global_pool 'max' is not one of"):
        small(global_pool='max')
    with pytest.raises(xvit_det.errors.InputError, match="arch 'huge' is not one of"):
        timm.create_model('xvit_small', arch='huge')


@torch.no_grad()
def test_pyramid_gives_the_maps_of_detection():
    x = torch.randn(1, 3, 64, 96)
    torch.manual_seed(0)
    model = timm.create_model('xvit_small_pyramid', arch=BODY, features_only=True).eval()
    assert model.feature_info.reduction() == [4, 8, 16, 32] and model.feature_info.channels() == [64] * 4
    torch.manual_seed(0)
    ours = xvit_det.XViT(arch=BODY).eval()
    for got, want in zip(model(x), ours(x), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)
    two = timm.create_model('xvit_tiny_pyramid', features_only=True, out_indices=(1, 3), in_chans=1)
    assert [m.shape[-1] for m in two.eval()(x[:, :1])] == [12, 3]


def test_the_pyramid_refuses_what_it_does_not_have():
    with pytest.raises(xvit_det.errors.InputError, match='num_classes=5: the pyramid has no classifier'):
        timm.create_model('xvit_tiny_pyramid', num_classes=5)
    with pytest.raises(xvit_det.errors.InputError, match='NCHW maps alone'):
        timm.create_model('xvit_tiny_pyramid', arch=BODY).forward_intermediates(
            torch.ones(1, 3, 64, 64), output_fmt='NLC'
        )


@pytest.mark.parametrize('decoder', ['Unet', 'FPN', 'Segformer', 'DPT'])
def test_segmentation_models_pytorch(decoder):
    import segmentation_models_pytorch as smp

    name = 'tu-xvit_tiny' if decoder == 'DPT' else 'tu-xvit_tiny_pyramid'
    model = getattr(smp, decoder)(name, encoder_weights=None, classes=5)
    masks = model(torch.randn(2, 3, 64, 96))
    masks.square().mean().backward()
    assert masks.shape == (2, 5, 64, 96)
    ours = next(module for module in model.modules() if isinstance(module, xvit_det.XViT))
    assert ours.stem.convs[0].weight.grad.abs().sum() > 0
