"""Mixers by name."""

import pytest
import torch

from xvit_det.errors import InputError
from xvit_det.mixers import MIXERS, NystromAttention, RotaryPosition, TokenMixer, build_mixer

CONTEXT = dict(embed_dims=16, num_heads=2, head_dims=None, grid=(4, 4), num_prefix=0)


@pytest.mark.parametrize('name', MIXERS)
def test_by_name(name):
    mixer = build_mixer(name, MIXERS, **CONTEXT)
    assert type(mixer) is MIXERS[name] and isinstance(mixer, TokenMixer)


def test_options_have_precedence_over_the_context():
    options = dict(type='nystrom', landmarks=8, num_heads=4)
    mixer = build_mixer(options, MIXERS, **CONTEXT)
    assert isinstance(mixer, NystromAttention) and (mixer.landmarks, mixer.num_heads) == (8, 4)
    assert options == dict(type='nystrom', landmarks=8, num_heads=4)  # a config is not used up


def test_rotary_positions_reach_the_mixer():
    position = RotaryPosition(8)
    assert build_mixer('nystrom', MIXERS, **CONTEXT, rotary=position).rotary is position


def test_a_new_mixer_is_one_class_and_one_entry():
    class Mean(TokenMixer):
        """Every token becomes the mean of all."""

        def __init__(self, embed_dims, scale=1.0):
            super().__init__(embed_dims)
            self.scale = scale

        def forward(self, x, valid=None, size=None):
            return self.scale * x.mean(dim=1, keepdim=True).expand_as(x)

    x = torch.randn(2, 16, 16)
    mixer = build_mixer(dict(type='mean', scale=2.0), dict(MIXERS, mean=Mean), **CONTEXT)
    torch.testing.assert_close(mixer(x)[:, 3], 2 * x.mean(dim=1))


@pytest.mark.parametrize(
    'mixer, message',
    [
        (
            'nystroem',
            "mixer 'nystroem' is not one of softmax, performer, linformer, nystrom, fourier, mlp, xnorm, xca, ",
        ),
        (dict(landmarks=3), 'mixer None is not one of softmax'),
        (['nystrom'], r"mixer \['nystrom'\] is not one of softmax"),
        (
            dict(type='nystrom', landmark=3),
            'mixer nystrom has no option landmark; choices: landmarks, pinv_iterations, conv_kernel, mask_fill',
        ),
        (dict(type='fourier', window=3, kernel=5), 'mixer fourier has no option kernel, window; choices: none'),
    ],
)
def test_unknown_names_and_options(mixer, message):
    with pytest.raises(InputError, match=f'^{message}'):
        build_mixer(mixer, MIXERS, **CONTEXT)


@pytest.mark.parametrize('name', ['fourier', 'mlp', 'xnorm', 'xca', 'identity'])
def test_mixers_that_take_no_rotary_position(name):
    able = 'softmax, performer, linformer, nystrom$'
    with pytest.raises(InputError, match=f'^mixer {name} does not support rotary positions; these do: {able}'):
        build_mixer(name, MIXERS, **CONTEXT, rotary=RotaryPosition(8))
