"""What every token mixer keeps, run over all of them; what each one computes is tested in a file of its own."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xvit_det.errors import InputError
from xvit_det.mixers import MIXERS, RotaryPosition, build_mixer

GRID, PREFIX, DIMS, HEADS = (3, 5), 1, 16, 2
TOKENS = PREFIX + GRID[0] * GRID[1]
VARIANTS = {
    'softmax': dict(type='softmax'),
    'softmax with biases': dict(type='softmax', qkv_bias=True),
    'softmax with its map': dict(type='softmax', fused=False),
    'performer': dict(type='performer'),
    'performer without biases': dict(type='performer', qkv_bias=False),
    'performer relu': dict(type='performer', kernel='relu'),
    'performer local': dict(type='performer', local_heads=1, window=4),
    'linformer': dict(type='linformer', projected=4),
    'linformer all heads': dict(type='linformer', projected=4, one_kv_head=False, share_kv=False),
    'nystrom': dict(type='nystrom', landmarks=4, conv_kernel=5),
    'nystrom filled': dict(type='nystrom', landmarks=5, conv_kernel=5),
    'nystrom with biases': dict(type='nystrom', landmarks=5, conv_kernel=5, qkv_bias=True),
    'nystrom masked': dict(type='nystrom', landmarks=7, conv_kernel=None, mask_fill=True),
    'fourier': dict(type='fourier'),
    'mlp': dict(type='mlp'),
    'xnorm': dict(type='xnorm'),
    'xca': dict(type='xca'),
    'identity': dict(type='identity'),
}
CANNOT_LEAVE_OUT = {'fourier', 'mlp'}
ROTARY = [name for name, cls in MIXERS.items() if 'rotary' in inspect.signature(cls).parameters]

every_mixer = pytest.mark.parametrize('variant', VARIANTS)
masking = pytest.mark.parametrize('variant', [name for name in VARIANTS if name not in CANNOT_LEAVE_OUT])


def build(variant, dtype=torch.float32, **context):
    torch.manual_seed(0)
    context = dict(embed_dims=DIMS, num_heads=HEADS, grid=GRID, num_prefix=PREFIX) | context
    return build_mixer(VARIANTS[variant], MIXERS, **context).to(dtype)


def tokens(number, dtype=torch.float32):
    return torch.randn(number, TOKENS, DIMS, generator=torch.Generator().manual_seed(1)).to(dtype)


def test_every_mixer_is_tested():
    assert {options['type'] for options in VARIANTS.values()} == set(MIXERS)


@every_mixer
def test_works_alone(variant):
    mixer, x = build(variant), tokens(3)
    out = mixer(x)
    assert out.shape == x.shape and out.dtype == x.dtype and out.isfinite().all()
    mixes = not torch.equal(out[:, :1], mixer(torch.cat((x[:, :1], x[:, 1:].flip(2)), dim=1))[:, :1])
    assert mixes == (variant != 'identity')


@every_mixer
def test_an_image_does_not_feel_the_others_in_its_batch(variant):
    mixer = build(variant, torch.float64).eval()
    x = tokens(3, torch.float64)
    x[1:] *= 30  # maxima over the batch, as the released ViX code takes them, would show
    torch.testing.assert_close(mixer(x)[:1], mixer(x[:1]))


@masking
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_valid_tokens_do_not_feel_the_others(variant, data):
    rows = st.lists(st.booleans(), min_size=TOKENS, max_size=TOKENS).filter(any)
    valid = torch.tensor([data.draw(rows), data.draw(rows)])
    mixer, x = build(variant, torch.float64), tokens(2, torch.float64)
    changed = x.masked_fill(~valid[..., None], 1e4).requires_grad_()
    out = mixer(changed, valid)
    torch.testing.assert_close(out[valid], mixer(x, valid)[valid])
    torch.testing.assert_close(out, mixer(changed, valid.to(x.dtype)))  # 0/1 will do as well
    out[valid].sum().backward()
    assert out.isfinite().all() and changed.grad.isfinite().all()
    assert not changed.grad[~valid].any()


@masking
def test_all_tokens_valid_is_the_same_as_none_said(variant):
    mixer, x = build(variant), tokens(2)
    torch.testing.assert_close(mixer(x, torch.ones(2, TOKENS, dtype=torch.bool)), mixer(x))


@pytest.mark.parametrize('variant', sorted(CANNOT_LEAVE_OUT))
def test_mixers_that_cannot_leave_tokens_out_say_so(variant):
    with pytest.raises(InputError, match=f'^{variant} cannot mask padded tokens: every output '):
        build(variant)(tokens(2), torch.ones(2, TOKENS, dtype=torch.bool))


@every_mixer
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_is_finite_and_close(variant, dtype):
    mixer, x = build(variant), (3 * tokens(2)).requires_grad_()
    with torch.autocast('cpu', dtype=dtype):
        out = mixer(x)
    out.float().square().sum().backward()
    assert out.isfinite().all() and all(p.grad.isfinite().all() for p in (x, *mixer.parameters()))
    exact = mixer(x)
    assert (out - exact).norm() < (0.005 if dtype == torch.float16 else 0.04) * exact.norm()


@pytest.mark.parametrize(
    ('variant', 'masked'),
    [
        (variant, masked)
        for variant in VARIANTS
        for masked in (False, True)
        if not (masked and variant in CANNOT_LEAVE_OUT)
    ],
)
def test_gradients(check_gradients, variant, masked):
    mixer = build(variant, torch.float64, embed_dims=4, num_heads=2, head_dims=2)
    valid = torch.rand(2, TOKENS, generator=torch.Generator().manual_seed(2)) < 0.7
    check_gradients(mixer, 0.5 * tokens(2, torch.float64)[:, :, :4], valid if masked else None)


@pytest.mark.parametrize('variant', ROTARY)
def test_gradients_with_rotary_positions_on_another_grid(check_gradients, variant):
    rotary = RotaryPosition(4, axial=True).double()
    mixer = build(variant, torch.float64, embed_dims=4, num_heads=2, head_dims=4, rotary=rotary)
    check_gradients(mixer, 0.5 * tokens(1, torch.float64)[:, :13, :4], size=(4, 3))


@pytest.mark.parametrize('axial', [False, True])
@pytest.mark.parametrize('variant', ROTARY)
def test_rotary_position_makes_the_order_matter(variant, axial):
    position = RotaryPosition(DIMS // HEADS, axial)
    x = tokens(1)
    order = torch.cat((torch.arange(PREFIX), torch.randperm(TOKENS - PREFIX) + PREFIX))
    turned = build(variant, rotary=position)
    assert not torch.allclose(turned(x, size=GRID)[:, order], turned(x[:, order], size=GRID), atol=1e-4)
    assert not torch.allclose(turned(x, size=GRID), build(variant)(x, size=GRID), atol=1e-4)
