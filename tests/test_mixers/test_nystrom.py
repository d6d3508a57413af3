"""Nyström attention against the package nystrom-attention, dense algebra and softmax attention."""

import nystrom_attention
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xvit_det.errors import InputError
from xvit_det.mixers import NystromAttention, RotaryPosition, SoftmaxAttention
from xvit_det.mixers.nystrom import pseudo_inverse

# Iterations after which the pseudo-inverse is one to five digits and more, whatever the start. Many more would blow up
# the rounding errors of singular matrices, which each one multiplies by 13/4.
ENOUGH = 24


def pair(heads, landmarks, iterations, kernel, **options):
    """Ours and the package's, with the same weights."""
    torch.manual_seed(0)
    ours = NystromAttention(
        8 * heads, heads, landmarks=landmarks, pinv_iterations=iterations, conv_kernel=kernel, **options
    )
    convolution = dict(residual=kernel is not None, residual_conv_kernel=kernel or 33)
    theirs = nystrom_attention.NystromAttention(8 * heads, 8, heads, landmarks, iterations, eps=0, **convolution)
    names = {'to_qkv': 'qkv', 'to_out.0': 'proj', 'res_conv': 'conv'}
    for name, mine in names.items():
        if kernel is not None or mine != 'conv':
            theirs.get_submodule(name).load_state_dict(ours.get_submodule(mine).state_dict())
    return ours.double(), theirs.double()


@pytest.mark.parametrize('tokens', [24, 21, 19, 6])
@pytest.mark.parametrize('kernel', [None, 5, 33])
def test_equals_the_package(tokens, kernel):
    """Also where zeros are put in front.

    The package scales the start of the pseudo-inverse by maxima over all images and heads, we by those of each matrix:
    with one image and one head, the two are the same.
    """
    ours, theirs = pair(1, 6, 6, kernel)
    x = torch.randn(1, tokens, 8, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize('tokens', [24, 21])
def test_equals_the_package_for_many_images_and_heads(tokens):
    """With so many iterations that the start no longer matters."""
    ours, theirs = pair(3, 6, ENOUGH, 5)
    x = 2 * torch.randn(4, tokens, 24, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_mask_fill_equals_the_package_given_a_mask():
    ours, theirs = pair(1, 6, 6, 5, mask_fill=True)
    x = torch.randn(1, 21, 8, dtype=torch.float64)  # 3 zeros in front, less than the 4 tokens of a landmark
    torch.testing.assert_close(ours(x), theirs(x, mask=torch.ones(1, 21, dtype=torch.bool)))
    ours.mask_fill = False
    assert not torch.allclose(ours(x), theirs(x, mask=torch.ones(1, 21, dtype=torch.bool)), atol=1e-4)


def test_with_biases_the_tokens_in_front_are_masked():
    """Their queries, keys and values would be the biases: what counts is as if they were padding of the input."""
    torch.manual_seed(0)
    mixer = NystromAttention(8, 2, landmarks=6, conv_kernel=5, qkv_bias=True).double()
    x = torch.randn(1, 21, 8, dtype=torch.float64)
    longer = torch.cat((torch.randn(1, 3, 8, dtype=torch.float64), x), dim=1)
    torch.testing.assert_close(mixer(x), mixer(longer, torch.arange(24)[None] >= 3)[:, 3:])


def by_definition(mixer, x, valid):
    """Equation 13 with dense matrices, one image and head at a time, over the tokens that count.

    Landmarks without any such token are left out altogether.
    """
    images, n, _ = x.shape
    fill = -n % mixer.landmarks
    x = torch.cat((x.new_zeros(images, fill, x.shape[2]), x), dim=1)
    valid = torch.cat((torch.full((images, fill), not mixer.mask_fill), valid), dim=1)
    groups = torch.arange(n + fill) // ((n + fill) // mixer.landmarks)
    position = mixer.rotary or (lambda u: u)
    outs = []
    for b in range(images):
        q, k, v = mixer.qkv(x[b]).unflatten(1, (3, mixer.num_heads, -1)).permute(1, 2, 0, 3)  # (H, N, d)
        q, k = position(q[None])[0] / q.shape[2] ** 0.5, position(k[None])[0]
        heads = []
        for h in range(mixer.num_heads):
            seen = [valid[b] & (groups == g) for g in range(mixer.landmarks)]
            near_q, near_k = (torch.stack([u[h, s].mean(dim=0) for s in seen if s.any()]) for u in (q, k))
            first = (q[h] @ near_k.T).softmax(dim=1)
            second = (near_q @ near_k.T).softmax(dim=1)
            third = (near_q @ k[h, valid[b]].T).softmax(dim=1)
            heads.append(first @ torch.linalg.pinv(second) @ (third @ v[h, valid[b]]))
        outs.append(torch.cat(heads, dim=1)[fill:])
    return mixer.proj(torch.stack(outs))


@pytest.mark.parametrize('mask_fill', [False, True])
@pytest.mark.parametrize('tokens, landmarks', [(16, 4), (13, 4), (9, 8), (5, 5)])
@pytest.mark.parametrize('rotary', [False, True])
def test_equals_dense_algebra_and_leaves_tokens_out(tokens, landmarks, mask_fill, rotary):
    """9 tokens and 8 landmarks: 7 zeros in front, which fill three landmarks."""
    torch.manual_seed(0)
    options = dict(landmarks=landmarks, pinv_iterations=ENOUGH, conv_kernel=None, mask_fill=mask_fill)
    options['rotary'] = RotaryPosition(4) if rotary else None
    mixer = NystromAttention(8, 2, **options).double()
    x = 3 * torch.randn(2, tokens, 8, dtype=torch.float64)
    every = torch.ones(2, tokens, dtype=torch.bool)
    torch.testing.assert_close(mixer(x), by_definition(mixer, x, every), rtol=1e-5, atol=1e-6)
    valid = every.clone()
    valid[0, 1], valid[1, -2:] = False, False
    torch.testing.assert_close(mixer(x, valid)[valid], by_definition(mixer, x, valid)[valid], rtol=1e-5, atol=1e-6)


def test_is_softmax_attention_when_every_token_is_a_landmark():
    torch.manual_seed(0)
    nystrom = NystromAttention(16, 2, landmarks=12, pinv_iterations=ENOUGH, conv_kernel=None).double()
    softmax = SoftmaxAttention(16, 2).double()
    softmax.load_state_dict(nystrom.state_dict())
    x = 4 * torch.randn(3, 12, 16, dtype=torch.float64)
    torch.testing.assert_close(nystrom(x), softmax(x), rtol=1e-5, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(number=st.integers(1, 8), copies=st.integers(0, 4), seed=st.integers(0, 99))
def test_pseudo_inverse_of_softmax_matrices(number, copies, seed):
    """Also where landmarks coincide, as those of zeros in front do: then the matrix is singular."""
    jitter = torch.rand(number, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = 2 * torch.arange(number)[:, None] + jitter
    points = points[torch.arange(number + copies) % number]
    a = (-(points - points.T).square()).softmax(dim=1)
    expected = torch.linalg.pinv(a, rtol=1e-9)
    torch.testing.assert_close(pseudo_inverse(a, ENOUGH), expected, rtol=1e-3, atol=1e-3)


def test_each_matrix_has_its_own_start():
    torch.manual_seed(0)
    a = (3 * torch.randn(5, 6, 6)).softmax(dim=-1)
    torch.testing.assert_close(pseudo_inverse(a, 2), torch.stack([pseudo_inverse(one, 2) for one in a]))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(landmarks=0), 'nystrom landmarks=0 is not at least 1'),
        (dict(pinv_iterations=0), 'nystrom pinv_iterations=0 is not at least 1'),
        (dict(conv_kernel=4), 'nystrom conv_kernel=4 is not a positive odd number or None'),
        (dict(conv_kernel=-1), 'nystrom conv_kernel=-1 is not a positive odd number or None'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        NystromAttention(8, 2, **options)


def test_more_landmarks_than_tokens():
    with pytest.raises(InputError, match='nystrom has landmarks=64, more than the 63 tokens; use fewer'):
        NystromAttention(8, 2)(torch.zeros(1, 63, 8))
