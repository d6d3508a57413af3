"""The linear layers of fused models: both kernels compute the same, and a trial or a variable chooses one."""

import pytest
import torch
import torch.nn.functional as F

import xvit_det
from xvit_det.errors import InputError
from xvit_det.kernels import linear_trial, onednn

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
needs_onednn = pytest.mark.skipif(not onednn.DTYPES, reason='this PyTorch is built without oneDNN')


@needs_onednn
@pytest.mark.parametrize('kernel', [onednn.onednn_kernel, onednn.torch_kernel, onednn._opaque_kernel])
@pytest.mark.parametrize('dtype', onednn.DTYPES, ids=str)
def test_kernels_agree_with_float64(kernel, dtype):
    torch.manual_seed(0)
    x, weight, residual = torch.randn(2, 9, 24), torch.randn(40, 24) / 5, torch.randn(2, 9, 40)
    bias = torch.randn(40)
    expected = F.linear(x.double(), weight.double(), bias.double())
    given = [each.to(dtype) for each in (x, weight, bias)]
    for out, exact in (
        (kernel(*given, 'none', None), expected),
        (kernel(*given, 'gelu', None), F.gelu(expected)),
        (kernel(*given, 'none', residual.to(dtype)), residual + expected),
    ):
        assert out.dtype == dtype
        assert (out - exact).abs().max() <= TOLERANCES[dtype] * exact.abs().max()


@needs_onednn
@pytest.mark.parametrize(('choice', 'ratio', 'chosen'), [
    ('auto', 1.5, True), ('auto', 1.01, False), ('auto', 0.8, False), ('onednn', 0.8, True), ('torch', 1.5, False),
])  # fmt: skip
def test_choice(monkeypatch, choice, ratio, chosen):
    monkeypatch.setenv(linear_trial.VARIABLE, choice)
    monkeypatch.setattr(linear_trial, 'speedup', lambda dtype, threads: ratio)
    x, weight = torch.ones(1, 2, 3), torch.ones(4, 3)
    assert linear_trial.is_chosen(torch.float32) == chosen
    assert onednn._kernel_for(x, weight) is (onednn.onednn_kernel if chosen else onednn.torch_kernel)
    assert onednn._kernel_for(x.double(), weight.double()) is onednn.torch_kernel


@needs_onednn
def test_trial(monkeypatch):
    """It measures, once for each dtype and number of threads, and leaves the random state alone."""
    linear_trial.speedup.cache_clear()
    state = torch.get_rng_state()
    fast = linear_trial.speedup(torch.float32, 1)
    assert fast > 0 and linear_trial.speedup(torch.float32, 1) == fast and linear_trial.speedup.cache_info().misses == 1
    assert torch.equal(torch.get_rng_state(), state)
    linear_trial.speedup.cache_clear()

    def slower(*given):
        return [onednn.torch_kernel(*given) for _ in range(20)][-1]

    monkeypatch.setattr(linear_trial, 'onednn_kernel', slower)
    assert linear_trial.speedup(torch.float32, 1) < fast
    linear_trial.speedup.cache_clear()


def test_wrong_choice(monkeypatch):
    monkeypatch.setenv(linear_trial.VARIABLE, 'mkl')
    backbone = xvit_det.XViT(arch='tiny').eval().fuse()
    with (
        pytest.raises(InputError, match="XVIT_DET_LINEAR is 'mkl', but must be one of auto, onednn, torch"),
        torch.no_grad(),
    ):
        backbone(torch.rand(1, 3, 64, 64))


def test_a_fused_backbone_gives_the_same_with_either_kernel(monkeypatch):
    backbone = xvit_det.XViT(arch='tiny').eval()
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        plain = backbone(image)
        backbone.fuse()
        for choice in ('onednn', 'torch'):
            monkeypatch.setenv(linear_trial.VARIABLE, choice)
            for a, b in zip(backbone(image), plain, strict=True):
                assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.parametrize('choice', ['onednn', 'torch'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_mlp_in_groups(monkeypatch, choice, dtype):
    """Tokens in groups, the last of them a smaller one, give what all of them give at once, also under autocast and
    where a gradient is recorded."""
    monkeypatch.setenv(linear_trial.VARIABLE, choice)
    torch.manual_seed(0)
    norm = torch.nn.LayerNorm(24, elementwise_affine=False)
    fc1, fc2 = (onednn.OneDNNLinear(torch.nn.Linear(*sides)).to(dtype) for sides in ((24, 60), (60, 24)))
    x = torch.randn(2, 9, 24, dtype=dtype)
    expected = x.double() + F.linear(
        F.gelu(F.linear(norm(x).double(), fc1.weight.double(), fc1.bias.double())),
        fc2.weight.double(),
        fc2.bias.double(),
    )
    tolerance = TOLERANCES.get(dtype, 1e-9) * expected.abs().max()
    for group in (4, 9, 100):
        monkeypatch.setattr(onednn, 'GROUP', group)
        with torch.no_grad():
            assert (onednn.mlp_add(x, norm, fc1, fc2) - expected).abs().max() <= tolerance
            with torch.autocast('cpu', torch.bfloat16):
                out = onednn.mlp_add(x, norm, fc1, fc2)
            assert (out - expected).abs().max() <= TOLERANCES[torch.bfloat16] * expected.abs().max()
        needs = x.clone().requires_grad_()
        out = onednn.mlp_add(needs, norm, fc1, fc2)
        out.sum().backward()
        assert (out - expected).abs().max() <= tolerance and needs.grad.abs().min() > 0
