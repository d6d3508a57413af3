"""Performer against the package performer-pytorch, softmax attention and written-out definitions."""

import pytest
import torch
from performer_pytorch import SelfAttention
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from xvit_det.errors import InputError
from xvit_det.mixers import PerformerAttention, RotaryPosition
from xvit_det.mixers.performer import linear_attention, local_attention, orthogonal_features

NAMES = {'to_q': 'q', 'to_k': 'k', 'to_v': 'v', 'to_out': 'proj'}


@pytest.mark.parametrize('num_features', [None, 7, 16])
@pytest.mark.parametrize('kernel', ['softmax', 'relu'])
def test_equals_the_package(kernel, num_features):
    """Outputs and gradients, several images and heads.

    Version 1.1.4 takes the keys' stabiliser for each image and head, as we do; the older one in the released ViX code
    takes it over the whole batch.
    """
    torch.manual_seed(0)
    ours = PerformerAttention(24, 3, kernel=kernel, num_features=num_features).double()
    theirs = SelfAttention(
        24,
        heads=3,
        dim_head=8,
        nb_features=num_features,
        generalized_attention=kernel == 'relu',
        qkv_bias=True,
        attn_out_bias=True,
    ).double()
    for name, mine in NAMES.items():
        theirs.get_submodule(name).load_state_dict(ours.get_submodule(mine).state_dict())
    theirs.fast_attention.projection_matrix.copy_(ours.features)
    x = torch.randn(3, 21, 24, dtype=torch.float64)
    x[0] *= 5
    outs, grads = [], []
    for mixer in (ours, theirs):
        y = x.clone().requires_grad_()
        outs.append(mixer(y))
        outs[-1].sin().sum().backward()
        grads.append(y.grad)
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)
    for name, mine in NAMES.items():
        torch.testing.assert_close(theirs.get_submodule(name).weight.grad, ours.get_submodule(mine).weight.grad)


def features_by_definition(u, w, kernel, eps, stabiliser):
    t = u / u.shape[-1] ** 0.25
    if kernel == 'relu':
        return torch.relu(t @ w.T) + eps
    return torch.exp(t @ w.T - (t**2).sum(dim=-1, keepdim=True) / 2 - stabiliser) + eps


@pytest.mark.parametrize('eps', [1e-2, 1e-9])
@pytest.mark.parametrize('kernel', ['softmax', 'relu'])
def test_equals_its_definition_and_leaves_tokens_out(kernel, eps):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 9, 4, dtype=torch.float64).unbind()  # one image, one head
    w = orthogonal_features(6, 4).double()
    valid = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1, 0]).bool()
    keys = k[valid]
    phi_k = features_by_definition(keys, w, kernel, eps, (keys / 2**0.5 @ w.T).max())
    phi_q = features_by_definition(q, w, kernel, eps, (q / 2**0.5 @ w.T).max(dim=1, keepdim=True).values)
    weights = phi_q @ phi_k.T
    expected = (weights / weights.sum(dim=1, keepdim=True)) @ v[valid]
    out = linear_attention(*(u[None, None] for u in (q, k, v)), w, kernel, eps, valid[None])
    torch.testing.assert_close(out[0, 0], expected)


def test_approaches_softmax_attention_as_features_grow():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 4, 30, 8).unbind()
    q, k = q / 2, k / 2  # the longer they are, the more the 1e-4 matters, which no number of features removes
    exact = scaled_dot_product_attention(q, k, v)
    errors = []
    for number in (8, 64, 512):
        draws = [linear_attention(q, k, v, orthogonal_features(number, 8), 'softmax', 1e-4) for _ in range(20)]
        errors.append(torch.stack([(draw - exact).norm() / exact.norm() for draw in draws]).mean())
    assert errors[1] < 0.7 * errors[0] and errors[2] < 0.7 * errors[1], errors
    assert errors[2] < 0.15


def test_one_long_key_leaves_a_mean_over_tokens_unless_eps_is_small():
    """The longest key sets the stabiliser, and beside ε = 1e-4 nothing is left of the others: all count the same."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 64, 32).unbind()
    q, k = q / 2, k / 2
    k[:, :, 0] *= 4
    w, mean = orthogonal_features(2000, 32), v.mean(dim=2, keepdim=True)
    exact = scaled_dot_product_attention(q, k, v)
    released, small = (
        (linear_attention(q, k, v, w, 'softmax', eps) - exact).norm() / (mean - exact).norm() for eps in (1e-4, 1e-9)
    )
    assert released > 0.95 and small < 0.8, (released, small)


def test_features_are_orthogonal_in_blocks_with_a_gaussians_lengths():
    torch.manual_seed(0)
    w = orthogonal_features(4000, 16)
    blocks = nn.functional.normalize(w, dim=1).unflatten(0, (-1, 16))
    torch.testing.assert_close(blocks @ blocks.transpose(1, 2), torch.eye(16).expand(250, 16, 16), atol=1e-5, rtol=0)
    assert abs(w.square().sum(dim=1).mean() - 16) < 0.5
    assert orthogonal_features(37, 16).shape == (37, 16)
    assert PerformerAttention(128, 4).features.shape == (110, 32)


@pytest.mark.parametrize('tokens', [1, 5, 8, 11])
def test_local_heads_see_their_window_and_the_two_beside_it(tokens):
    torch.manual_seed(0)
    window = 4
    q, k, v = torch.randn(3, 2, 2, tokens, 6, dtype=torch.float64).unbind()
    valid = torch.rand(2, tokens) > 0.3
    valid[:, ::4] = True  # one in each window
    number = torch.arange(tokens) // window
    near = (number[:, None] - number).abs() <= 1  # (N, N)
    expected = torch.zeros_like(v)
    for b in range(2):
        for i in range(tokens):
            seen = near[i] & valid[b]
            weights = (k[b, :, seen] @ q[b, :, i, :, None] / 6**0.5).softmax(dim=1)  # (H, seen, 1)
            expected[b, :, i] = (weights * v[b, :, seen]).sum(dim=1)
    torch.testing.assert_close(local_attention(q, k, v, window, valid), expected)


def test_the_last_heads_are_the_local_ones():
    torch.manual_seed(0)
    mixer = PerformerAttention(12, 3, local_heads=2, window=2)
    x = torch.randn(1, 20, 12)
    q, k, v = (layer(x).unflatten(2, (3, 4)).transpose(1, 2) for layer in (mixer.q, mixer.k, mixer.v))
    heads = (
        linear_attention(q[:, :1], k[:, :1], v[:, :1], mixer.features, 'softmax', 1e-4),
        local_attention(q[:, 1:], k[:, 1:], v[:, 1:], 2),
    )
    torch.testing.assert_close(mixer(x), mixer.proj(torch.cat(heads, dim=1).transpose(1, 2).flatten(2)))
    far = x.clone()
    far[:, 10:] += 1  # no local head of the first token sees that far, and there is no other one
    local = PerformerAttention(12, 3, local_heads=3, window=2)
    torch.testing.assert_close(local(x)[:, 0], local(far)[:, 0])


def test_rotary_position_turns_queries_and_keys_before_the_features():
    torch.manual_seed(0)
    position = RotaryPosition(4)
    mixer = PerformerAttention(8, 2, rotary=position)
    x = torch.randn(2, 9, 8)
    q, k, v = (layer(x).unflatten(2, (2, 4)).transpose(1, 2) for layer in (mixer.q, mixer.k, mixer.v))
    out = linear_attention(position(q), position(k), v, mixer.features, 'softmax', 1e-4)
    torch.testing.assert_close(mixer(x), mixer.proj(out.transpose(1, 2).flatten(2)))


def test_features_are_redrawn_in_training_only():
    torch.manual_seed(0)
    mixer, x = PerformerAttention(8, 2, redraw_interval=3), torch.randn(1, 4, 8)
    drawn = [mixer.features]
    for _ in range(7):
        mixer(x).sum().backward()
        drawn.append(mixer.features)
    same = [torch.equal(a, b) for a, b in zip(drawn, drawn[1:], strict=False)]
    assert same == [True, True, False, True, True, False, True]
    assert not torch.equal(drawn[3], drawn[6])
    mixer.eval()
    for _ in range(4):
        mixer(x)
    assert torch.equal(mixer.features, drawn[-1])
    assert torch.equal(mixer.state_dict()['features'], drawn[-1])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(kernel='exp'), "performer kernel 'exp' is not one of softmax, relu"),
        (dict(local_heads=3), 'local_heads=3 is not between 0 and num_heads=2'),
        (dict(num_features=0), 'performer num_features=0 is not at least 1'),
        (dict(eps=0), 'performer eps=0 is not greater than 0'),
        (dict(window=0), 'performer window=0 is not at least 1'),
        (dict(redraw_interval=0), 'performer redraw_interval=0 is not at least 1'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        PerformerAttention(8, 2, **options)
