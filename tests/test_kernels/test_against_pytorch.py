"""The kernels against PyTorch: on a GPU as they are, without one in Triton's interpreter (see test_interpreter.py)."""

import copy

import pytest
import torch
from torch import nn

from xvit_det import XViT, kernels
from xvit_det.layers import LocalPatchInteraction
from xvit_det.mixers import XNormAttention, xnorm_attention

if not (kernels.INTERPRETED or torch.cuda.is_available()):
    pytest.skip('no GPU here; test_interpreter.py runs this file in an interpreter', allow_module_level=True)
if not kernels.SWITCHED_ON:
    pytest.skip('the Triton kernels are not switched on; XVIT_DET_TRITON=1 does it', allow_module_level=True)

DEVICE = 'cpu' if kernels.INTERPRETED else 'cuda'
GPU = torch.empty(0, device=DEVICE).get_device()
TOLERANCE = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
every_dtype = pytest.mark.parametrize('dtype', TOLERANCE, ids=str)


@pytest.fixture(autouse=True)
def plain_products():
    """PyTorch's own results without TF32, and the same random numbers for every test."""
    torch.manual_seed(0)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def launches(monkeypatch) -> list[str]:
    """The kernels that were launched."""
    from xvit_det.kernels import lpi, xnorm

    assert kernels.usable(torch.ones(1, device=DEVICE))  # which tries the kernels out the first time
    names = []

    class Recorded:
        def __init__(self, name, kernel):
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid):
            names.append(self.name)
            return self.kernel[grid]

    for module, name in ((xnorm, '_sum_kv'), (xnorm, '_normalise_kv'), (xnorm, '_apply_kv'), (lpi, '_lpi')):
        monkeypatch.setattr(module, name, Recorded(name, getattr(module, name)))
    return names


XNORM = ['_sum_kv', '_normalise_kv', '_apply_kv']


def by_pytorch(function, *args, **kwargs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, 'usable', lambda *tensors: False)
        return function(*args, **kwargs)


def assert_close(actual, expected, dtype=torch.float32, factor=1):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    limit = factor * TOLERANCE[dtype] * expected.abs().max().float()
    assert (actual.float() - expected.float()).abs().max() <= limit


def qkv(b, h, n, c, dtype=torch.float32):
    """Strided views of one tensor, as the mixer makes them, with means that let kᵀv grow with n."""
    x = (torch.randn(b, n, 3, h, c) + 0.5).to(DEVICE, dtype)
    return x.permute(2, 0, 3, 1, 4).unbind(0)


@every_dtype
@pytest.mark.parametrize('kv_axis', [-2, -1])
@pytest.mark.parametrize(
    'b, h, n, c', [(1, 1, 1, 16), (2, 3, 133, 24), (1, 2, 300, 5), (2, 1, 128, 64), (1, 1, 20, 48)]
)
@torch.no_grad()
def test_xnorm(b, h, n, c, kv_axis, dtype, launches):
    q, k, v = qkv(b, h, n, c, dtype)
    gamma = torch.randn(1, h, 1, 1, device=DEVICE) + 2
    for scale in (None, gamma):
        actual = xnorm_attention(q, k, v, scale, kv_axis)
        assert_close(actual, by_pytorch(xnorm_attention, q, k, v, scale, kv_axis), dtype)
        assert actual.transpose(1, 2).is_contiguous()
    assert launches == 2 * XNORM


@pytest.mark.parametrize('make', [torch.Tensor.bool, torch.Tensor.float], ids=['bool', 'float'])
@torch.no_grad()
def test_xnorm_with_a_mask(make, launches):
    q, k, v = qkv(2, 2, 150, 16)
    valid = make((torch.rand(2, 150) > 0.4).to(DEVICE))
    expected = by_pytorch(xnorm_attention, q, k, v, None, -2, valid)
    assert_close(xnorm_attention(q, k, v, None, -2, valid), expected)
    k, v = (torch.where(valid[:, None, :, None].bool(), x, 1e6) for x in (k, v))
    assert_close(xnorm_attention(q, k, v, None, -2, valid), expected)
    first = valid[:1].expand(2, 150)
    assert_close(xnorm_attention(q, k, v, None, -2, first), by_pytorch(xnorm_attention, q, k, v, None, -2, first))
    nothing = xnorm_attention(q, k, v, None, -2, torch.zeros_like(valid))
    assert (nothing == 0).all()


@torch.no_grad()
def test_xnorm_sums_many_tokens_in_parts(launches):
    tokens = 128 * 64 + 1  # one more than the parts hold with a single step each
    q, k, v = qkv(1, 1, tokens, 4, torch.float16)
    few = q[:, :, :3]  # and other queries than keys, as in class attention
    exact = by_pytorch(xnorm_attention, few.double(), k.double(), v.double())
    actual = xnorm_attention(few, k, v)
    assert_close(actual.double(), exact, torch.float16)
    assert torch.equal(actual, xnorm_attention(few, k, v))
    assert launches == 2 * XNORM


@torch.no_grad()
def test_xnorm_of_tiny_and_zero_vectors(launches):
    q, k, v = qkv(1, 1, 6, 4)
    scales = torch.tensor([1, 1e-6, 1e-11, 1e-13, 1e-15, 0], device=DEVICE)[:, None]
    for small in ((q * scales, k, v), (q, k * 1e-7, v * 1e-7), (q, k * 0, v)):
        assert_close(xnorm_attention(*small), by_pytorch(xnorm_attention, *small))
    assert launches == 3 * XNORM


@torch.no_grad()
def test_what_the_xnorm_kernel_leaves_to_pytorch(launches):
    q, k, v = qkv(1, 2, 5, 8)
    xnorm_attention(q.double(), k.double(), v.double())
    xnorm_attention(torch.ones(1, 1, 3, 65, device=DEVICE), *torch.ones(2, 1, 1, 3, 65, device=DEVICE))
    assert xnorm_attention(q, k[:, :1], v[:, :1]).shape == (1, 2, 5, 8)
    with pytest.raises(RuntimeError):
        xnorm_attention(q, k, v[:, :, 1:])
    assert not launches


def lpi_module(channels, norm_cfg=None):
    lpi = LocalPatchInteraction(channels, norm_cfg or dict(type='BN'))
    for parameter in lpi.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    if isinstance(lpi.norm, nn.BatchNorm2d) and lpi.norm.running_mean is not None:
        nn.init.normal_(lpi.norm.running_mean)
        nn.init.uniform_(lpi.norm.running_var, 0.2, 3)
    return lpi.to(DEVICE).eval()


@pytest.mark.parametrize(
    'size, dtype',
    [((1, 1), torch.float32), ((1, 9), torch.float32), ((9, 1), torch.float32), ((17, 10), torch.float32)]
    + [((2, 3), dtype) for dtype in TOLERANCE],
    ids=str,
)
@torch.no_grad()
def test_lpi(size, dtype, launches):
    lpi = lpi_module(24).to(dtype)
    x = torch.randn(2, size[0] * size[1], 24).to(DEVICE, dtype)
    actual = lpi(x, size)
    assert launches == ['_lpi'] and actual.is_contiguous()
    assert_close(actual, by_pytorch(lpi, x, size), dtype)


@torch.no_grad()
def test_lpi_with_more_channels_and_other_norms(launches):
    x = torch.randn(1, 6, 70, device=DEVICE)
    for norm_cfg in (dict(type='BN', affine=False), dict(type='BN', eps=0.5), dict(type='SyncBN')):
        lpi = lpi_module(70, norm_cfg)
        assert_close(lpi(x, (2, 3)), by_pytorch(lpi, x, (2, 3)))
    wide = torch.randn(1, 6, 140, device=DEVICE)[..., ::2]
    assert_close(lpi(wide, (2, 3)), by_pytorch(lpi, wide, (2, 3)))
    assert launches == 4 * ['_lpi']
    for norm_cfg in (dict(type='GN', num_groups=2), dict(type='BN', track_running_stats=False)):
        lpi_module(70, norm_cfg)(x, (2, 3))
    lpi.train()(x, (2, 3))
    assert launches == 4 * ['_lpi']


@torch.no_grad()
def test_lpi_with_a_mask(launches):
    size, lpi = (4, 9), lpi_module(8)
    valid = (torch.rand(2, 36) > 0.4).to(DEVICE)
    x = torch.randn(2, 36, 8, device=DEVICE)
    expected = by_pytorch(lpi, x.clone(), size, valid)
    assert_close(lpi(x, size, valid), expected)
    assert_close(lpi(torch.where(valid[..., None], x, 1e6), size, valid), expected)
    assert launches == 2 * ['_lpi']


def xvit(**options):
    arch = dict(embed_dims=32, depth=1, attn_dims=24, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)
    model = XViT(arch=arch, **options)
    for name, parameter in model.named_parameters():
        if parameter.ndim <= 1 or '.gamma_' in name:
            nn.init.normal_(parameter, 0.3, 0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.2, 3)
    return model.to(DEVICE).eval()


@pytest.mark.parametrize('fused', [False, True], ids=['plain', 'fused'])
@pytest.mark.parametrize('out_type', ['featmap', 'cls_token'])
@torch.no_grad()
def test_backbone(out_type, fused, launches):
    model = xvit(out_type=out_type, mask_padding=True)
    model = model.fuse() if fused else model
    x = torch.randn(2, 3, 80, 150, device=DEVICE)
    sizes = torch.tensor([[80, 150], [33, 70]], device=DEVICE)
    expected = by_pytorch(model, x, image_sizes=sizes)
    assert not launches
    assert_close(model(x, image_sizes=sizes)[0], expected[0], factor=10)
    # The class token has attention but no neighbours.
    assert launches == [*XNORM, '_lpi'] + (XNORM if out_type == 'cls_token' else [])


@pytest.mark.parametrize('fused', [False, True], ids=['plain', 'fused'])
@torch.no_grad()
def test_backbone_under_autocast(fused, launches):
    model = xvit(out_type='featmap')
    model = model.fuse() if fused else model
    x = torch.randn(1, 3, 64, 64, device=DEVICE)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        actual, expected = model(x)[0], by_pytorch(model, x)[0]
    assert launches == [*XNORM, '_lpi']
    assert actual.dtype == expected.dtype and (actual - expected).norm() < 0.05 * expected.norm()


def test_gradients_go_through_pytorch(launches):
    model = xvit(out_type='featmap')
    x = torch.randn(1, 3, 48, 48, device=DEVICE)
    model(x)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    fused = copy.deepcopy(model).fuse()
    fused(x.requires_grad_())[0].sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() > 0
    assert not launches
    fused(x.detach())
    assert launches == [*XNORM, '_lpi']


@torch.no_grad()
def test_double_precision_and_tracing_are_left_to_pytorch(launches):
    mixer = XNormAttention(16, num_heads=2).to(DEVICE)
    x = torch.randn(1, 5, 16, device=DEVICE)
    copy.deepcopy(mixer).double()(x.double())
    torch.jit.trace(mixer, (x,), check_trace=False)
    torch.export.export(mixer, (x,))
    assert not launches


@pytest.mark.parametrize('kernel', ['xnorm_attention', 'local_patch_interaction'])
def test_a_kernel_that_computes_something_else_is_not_used(kernel, monkeypatch):
    from xvit_det.kernels import support, trial

    state = torch.get_rng_state()
    assert support.try_out.__wrapped__(GPU)
    assert torch.equal(torch.get_rng_state(), state)
    right = getattr(trial, kernel)
    monkeypatch.setattr(trial, kernel, lambda *args: 1.001 * right(*args))
    with pytest.warns(UserWarning, match=r'falling back to PyTorch: .* in torch.float32 is off by 0.001$'):
        assert not support.try_out.__wrapped__(GPU)


@pytest.mark.usefixtures('fresh_compiler')
@pytest.mark.skipif(kernels.INTERPRETED, reason='the interpreter is not for compiled models')
@pytest.mark.parametrize('fused', [False, True], ids=['plain', 'fused'])
@torch.no_grad()
def test_compiled_backbone_of_any_size(fused):
    model = xvit(out_type='featmap')
    model = model.fuse() if fused else model
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for size in ((80, 150), (96, 64)):
        x = torch.randn(2, 3, *size, device=DEVICE)
        assert_close(compiled(x)[0], by_pytorch(model, x)[0], factor=10)
