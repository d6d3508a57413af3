"""Convolutions after Winograd: equal to PyTorch's, with weights as they are now, and only where a trial finds them
faster."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xvit_det.errors import InputError
from xvit_det.kernels import winograd
from xvit_det.kernels.winograd import WinogradConv2d, convolve, is_suited, transform_filters


@pytest.fixture(autouse=True)
def fresh_caches():
    yield
    winograd._transforms.cache_clear()
    winograd.speedup.cache_clear()


@pytest.fixture
def chosen(monkeypatch):
    monkeypatch.setenv(winograd.VARIABLE, 'winograd')


def conv(channels=128, out_channels=128, kernel_size=3, **options):
    return nn.Conv2d(channels, out_channels, **dict(kernel_size=kernel_size, padding=kernel_size // 2) | options).eval()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    'shape', [(1, 5, 8, 12), (1, 5, 1, 1), (2, 5, 3, 50), (7, 5, 14, 14), (2, 5, 9, 301), (1, 5, 70, 6)], ids=str
)
@pytest.mark.parametrize('bias', [True, False])
def test_equals_pytorch(dtype, memory_format, shape, bias):
    """Also where tiles hang over, and where images or lines are computed in several parts."""
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(3, 5, 3, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64) if bias else None
    expected = F.conv2d(x, weight, bias, padding=1)
    x, weight = x.to(dtype), weight.to(dtype)
    out = convolve(x, transform_filters(weight), None if bias is None else bias.to(dtype))
    assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
    assert (out - expected).abs().max() <= 1e3 * torch.finfo(dtype).eps * expected.abs().max() / 32


@pytest.mark.parametrize('order', [(0, 2, 3, 1), (0, 3, 1, 2), (0, 3, 2, 1), (1, 0, 2, 3)], ids=str)
def test_any_memory_layout(order):
    torch.manual_seed(0)
    x = torch.randn(7, 8, 9, 10).permute(order)
    weight = torch.randn(6, x.shape[1], 3, 3)
    expected = F.conv2d(x, weight, padding=1)
    assert torch.allclose(convolve(x, transform_filters(weight), None), expected, atol=1e-4)


def test_rounding_errors(monkeypatch):
    """They are below 2e-6 of the outputs, and less than half of what the usual points cost."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 256, 40, 40), torch.randn(256, 256, 3, 3)
    exact = F.conv2d(x.double(), weight.double(), padding=1)

    def error():
        winograd._transforms.cache_clear()
        return (convolve(x, transform_filters(weight), None) - exact).std() / exact.std()

    ours = error()
    monkeypatch.setattr(winograd, 'POINTS', (0.0, 1.0, -1.0, 2.0, -2.0))
    assert 2 * ours < error() < 1e-5 and ours < 2e-6


@torch.no_grad()
def test_layer_follows_its_weights(chosen):
    """Weights that are loaded or changed after the first image count from then on."""
    layer = conv()
    fast, x = WinogradConv2d(layer).eval(), torch.randn(1, 128, 9, 7)
    assert fast.state_dict().keys() == layer.state_dict().keys()

    def check(fast):
        expected = F.conv2d(x, fast.weight, fast.bias, padding=1)
        out = fast(x)
        assert 0 < (out - expected).abs().max() < 1e-5 * expected.abs().max()

    check(fast)
    fast.load_state_dict(conv().state_dict())
    check(fast)
    fast.weight.mul_(2)
    check(fast)
    fast.weight.data.copy_(torch.randn(128, 128, 3, 3))  # as mmengine's EMAHook does
    check(fast)
    for _ in range(5):  # memory is used again
        fast.weight.data = torch.randn(128, 128, 3, 3)
        fast.load_state_dict(conv().state_dict(), assign=True)
        check(fast)
    check(copy.deepcopy(fast))
    check(pickle.loads(pickle.dumps(fast)))
    assert len(pickle.dumps(fast)) < 1.1 * len(pickle.dumps(layer))


def test_layer_leaves_the_rest_to_pytorch(chosen):
    fast, x = WinogradConv2d(conv()).eval(), torch.randn(2, 128, 8, 8)

    def pytorchs(x, fast=fast):
        return torch.equal(fast(x), F.conv2d(x, fast.weight, fast.bias, padding=1))

    with torch.no_grad():
        assert not pytorchs(x)
        assert fast(x[:0]).shape == (0, 128, 8, 8) and fast(x[0]).shape == (128, 8, 8)
        double = copy.deepcopy(fast).double()
        assert pytorchs(x.double(), double) and pytorchs(x.bfloat16(), copy.deepcopy(fast).bfloat16())
        with torch.autocast('cpu', torch.bfloat16):
            assert fast(x).dtype == torch.bfloat16
        assert torch.allclose(torch.export.export(fast, (x,)).module()(x), fast(x), atol=1e-4)
    fast(x.requires_grad_()).sum().backward()
    assert x.grad is not None and fast.weight.grad is not None
    fast.weight.requires_grad_(False)
    assert fast(x.detach()).requires_grad  # for the bias
    fast.requires_grad_(False)
    x = x.detach()
    assert torch.allclose(torch.func.jvp(fast, (x,), (x,))[1], fast(x) - fast.bias[:, None, None], atol=1e-4)
    with torch.inference_mode():
        fast = WinogradConv2d(conv()).eval()
        assert torch.allclose(fast(x), F.conv2d(x, fast.weight, fast.bias, padding=1), atol=1e-4)


@pytest.mark.parametrize(
    ('options', 'suited'),
    [
        ({}, True),
        (dict(padding='same'), True),
        (dict(bias=False), True),
        (dict(out_channels=127), False),
        (dict(channels=64), False),
        (dict(kernel_size=1), False),
        (dict(kernel_size=5), False),
        (dict(stride=2), False),
        (dict(dilation=2, padding=2), False),
        (dict(padding=0), False),
        (dict(groups=2), False),
        (dict(padding_mode='reflect'), False),
    ],
    ids=str,
)
def test_what_is_suited(options, suited):
    assert is_suited(conv(**options)) == suited


def test_layers_with_a_computation_of_their_own_are_not_suited():
    class Other(nn.Conv2d):
        pass

    other = conv()
    other.forward = lambda x: x
    assert not is_suited(other) and not is_suited(Other(128, 128, 3, padding=1))
    assert not is_suited(nn.utils.weight_norm(conv())) and not is_suited(nn.Linear(128, 128))


@pytest.mark.parametrize(
    ('choice', 'ratio', 'chosen'),
    [('auto', 1.5, True), ('auto', 1.05, False), ('winograd', 0.5, True), ('torch', 1.5, False)],
)
def test_choice(monkeypatch, choice, ratio, chosen):
    monkeypatch.setenv(winograd.VARIABLE, choice)
    monkeypatch.setattr(winograd, 'speedup', lambda threads: ratio)
    assert winograd.is_chosen() == chosen
    fast, x = WinogradConv2d(conv()).eval(), torch.randn(1, 128, 8, 8)
    with torch.no_grad():
        assert torch.equal(fast(x), F.conv2d(x, fast.weight, fast.bias, padding=1)) != chosen


def test_wrong_choice(monkeypatch):
    monkeypatch.setenv(winograd.VARIABLE, 'fft')
    message = "XVIT_DET_CONV is 'fft', but must be one of auto, winograd, torch"
    with pytest.raises(InputError, match=message), torch.no_grad():
        WinogradConv2d(conv())(torch.randn(1, 128, 8, 8))


def test_trial(monkeypatch):
    """It compares the two once for each number of threads, and leaves the random state alone."""
    compared = []

    def measured_speedup(slow, fast):
        compared.append((slow(), fast()))
        return 3.0

    monkeypatch.setattr(winograd, 'measured_speedup', measured_speedup)
    state = torch.get_rng_state()
    assert winograd.speedup(1) == winograd.speedup(1) == 3 and winograd.is_chosen()
    ((slow, fast),) = compared
    assert 0 < (slow - fast).abs().max() < 1e-5 * slow.abs().max()
    assert torch.equal(torch.get_rng_state(), state)
