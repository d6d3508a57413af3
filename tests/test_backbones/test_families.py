"""What the ViX families share: any mixer in any family, and what they refuse."""

import pytest
import torch

from xvit_det import CCX, CvX, InputError, LeViX, PiX, ViX
from xvit_det.mixers import MIXERS

_ONE = dict(embed_dims=(16,), depths=(4,), num_heads=(2,), head_dims=8, hidden_dims=(32,), pyramid_indices=(0, 1, 2, 3))
_TWO = dict(
    embed_dims=(16, 24),
    depths=(2, 2),
    num_heads=(2, 3),
    head_dims=8,
    hidden_dims=(32, 48),
    pyramid_indices=(0, 1, 2, 3),
)
FAMILIES = {
    ViX: dict(arch=dict(_ONE, init_std=0.5), patch_size=16),
    LeViX: dict(arch=dict(_TWO, pre_norm=False), patch_size=16),
    CCX: dict(arch=dict(_ONE, tokenizer_widths=(8,), tokenizer_kernel=3, pool_stride=2), patch_size=16),
    CvX: dict(arch=dict(_TWO, kernels=(7, 3), later_stride=2), patch_size=8),
    PiX: dict(arch=dict(_TWO, embed_dims=(16, 32), num_heads=(2, 4), init_std=0.5), patch_size=8),
}
OPTIONS = {'nystrom': dict(landmarks=4), 'linformer': dict(projected=4)}
HEIGHT, WIDTH = 70, 97

every_family = pytest.mark.parametrize('family', FAMILIES)


def build(family, mixer, **options):
    torch.manual_seed(0)
    mixer = dict(type=mixer, **OPTIONS.get(mixer, {})) if isinstance(mixer, str) else mixer
    return family(**{**FAMILIES[family], 'mixer': mixer, **options})


@every_family
@pytest.mark.parametrize('mixer', MIXERS)
def test_every_mixer_in_every_family_makes_a_pyramid_of_any_size_and_learns(family, mixer):
    # An MLP-Mixer's weights belong to one size; tables and projections of the others are resampled here.
    model = build(family, mixer, img_size=(HEIGHT, WIDTH) if mixer == 'mlp' else 224).train()
    outs = model(torch.randn(2, 3, HEIGHT, WIDTH))
    loss = 0
    for out, channels, stride in zip(outs, model.out_channels, (4, 8, 16, 32), strict=True):
        assert out.shape[:2] == (2, channels)
        # Rounded up at the stride of the block's own map at the latest, which is at most 32.
        assert all(0 <= n * stride - side < 32 for n, side in zip(out.shape[2:], (HEIGHT, WIDTH), strict=True))
        loss = loss + (out * torch.randn_like(out)).mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize('position', ['rotary', 'axial'])
@pytest.mark.parametrize('mixer', ['softmax', 'performer', 'linformer', 'nystrom'])
@pytest.mark.parametrize('out_type', ['pyramid', 'cls_token'])
def test_rotary_positions_with_every_mixer_that_has_queries_and_keys(position, mixer, out_type):
    model = build(ViX, mixer, position=position, out_type=out_type).train()
    assert not any('pos_embed' in name for name in model.state_dict()), 'no table, and none that is not used'
    x = torch.randn(2, 3, HEIGHT, WIDTH)
    outs = model(x)
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in model.parameters())
    without = build(ViX, mixer, position='none', out_type=out_type).train()
    without.load_state_dict(model.state_dict())
    assert not torch.allclose(without(x)[-1], outs[-1], atol=1e-6)


@every_family
def test_an_mlp_mixer_refuses_another_size_and_names_those_that_can(family):
    model = build(family, 'mlp', img_size=64)
    model(torch.zeros(2, 3, 64, 64))
    with pytest.raises(
        InputError, match=r'of \(64, 64\), and these give .*: softmax, .*nystrom, fourier, xnorm'
    ) as error:
        model(torch.zeros(2, 3, 64, 96))
    assert 'mlp,' not in str(error.value)


@every_family
def test_without_any_option_a_backbone_takes_images_of_224(family):
    with torch.device('meta'):
        outs = family().eval()(torch.zeros(1, 3, 224, 224))
    assert [tuple(out.shape[2:]) for out in outs] == [(56, 56), (28, 28), (14, 14), (7, 7)]


@every_family
def test_more_landmarks_than_tokens(family):
    model = build(family, dict(type='nystrom', landmarks=64))
    with pytest.raises(InputError, match=r'landmarks=64, more than the \d+ tokens; use fewer'):
        model(torch.zeros(1, 3, 48, 48))


@every_family
def test_drop_path_grows_linearly_from_zero(family):
    model = build(family, 'fourier', drop_path_rate=0.3)
    assert [block.drop_path.rate for block in model.blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    cut = build(family, 'fourier', drop_path_rate=0.3, out_type='featmap', out_indices=1)
    assert [block.drop_path.rate for block in cut.blocks] == pytest.approx([0.0, 0.1])


@every_family
@pytest.mark.parametrize(
    'options, message',
    [
        (
            dict(mixer='attention'),
            "mixer 'attention' is not one of softmax, performer, linformer, nystrom, fourier, mlp",
        ),
        (dict(mixer=None), 'mixer None is not one of softmax'),
        (dict(mixer=dict(type='nystrom', landmark=4)), 'nystrom has no option landmark; choices: landmarks, pinv'),
        (dict(mixer=dict(type='fourier', scale=4)), 'fourier has no option scale; choices: none'),
        (dict(mixer=dict(type='performer', kernel='elu')), "kernel 'elu' is not one of softmax, relu"),
        (dict(patch_size=0), 'patch_size=0 is not an integer from 1 to the sides of img_size=224'),
        (dict(patch_size=225), 'patch_size=225 is not an integer from 1'),
        (dict(patch_size=4.0), 'patch_size=4.0 is not an integer from 1'),
        (dict(img_size=(224,)), r'img_size=\(224,\) is not a side or \(height, width\)'),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(family, options, message):
    with pytest.raises(InputError, match=message):
        build(family, **{'mixer': 'softmax', **options})


@pytest.mark.parametrize('family', [ViX, LeViX, PiX])
def test_unknown_stem(family):
    with pytest.raises(InputError, match="stem 'conv3' is not one of patch, conv, deep_conv, patch_norm, overlap"):
        build(family, 'fourier', stem='conv3')


@every_family
def test_stages_that_do_not_agree(family):
    arch = FAMILIES[family]['arch']
    for change in (dict(depths=(1, 2, 1)), dict(embed_dims=16), dict(num_heads=())):
        with pytest.raises(InputError, match='sequences of one number per stage, all of the same length, not '):
            build(family, 'fourier', arch=dict(arch, **change))


@every_family
def test_gray_images_and_sizes_as_a_list(family):
    model = build(family, 'linformer', in_channels=1, img_size=[64, 96], out_type='featmap').eval()
    assert model.img_size == (64, 96)
    (out,) = model(torch.randn(1, 1, 64, 96))
    assert out.shape[2:] == model._grid(model.stage_of[-1])


@every_family
def test_other_norms_replace_every_batch_norm(family):
    grouped = build(family, 'softmax', norm_cfg=dict(type='GN', num_groups=2)).train()
    assert not any('BatchNorm' in type(m).__name__ for m in grouped.modules())
    sum(out.square().mean() for out in grouped(torch.randn(1, 3, 64, 64))).backward()
    synced = build(family, 'softmax', norm_cfg=dict(type='SyncBN'))
    assert {type(m).__name__ for m in synced.modules() if 'BatchNorm' in type(m).__name__} <= {'SyncBatchNorm'}


@every_family
def test_an_averaged_map_is_the_mean_of_the_normed_tokens(family):
    model = build(family, 'softmax', out_type='avg_featmap', out_indices=(1, 3)).eval()
    maps = build(family, 'softmax', out_type='featmap', out_indices=(1, 3)).eval()
    maps.load_state_dict(model.state_dict(), strict=False)
    x = torch.randn(2, 3, 64, 64)
    for norm, averaged, features in zip(model.norms, model(x), maps(x), strict=True):
        torch.testing.assert_close(averaged, norm(features.flatten(2).transpose(1, 2)).mean(dim=1))


@pytest.mark.parametrize('family', [ViX, PiX])
def test_epsilon_of_every_layer_norm(family):
    for options, eps in (({}, 1e-5), (dict(norm_eps=1e-6), 1e-6)):
        model = build(family, 'softmax', out_type='cls_token', **options)
        norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
        assert len(norms) == 9 and {norm.eps for norm in norms} == {eps}
