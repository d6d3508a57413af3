"""The optimizer wrapper that is mixed precision on a GPU and plain on a CPU."""

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from torch import nn

from xvit_det.engine import amp


def build(model: nn.Module | None = None, **options) -> OptimWrapper:
    cfg = dict(type='AutoAmpOptimWrapper', optimizer=dict(type='SGD', lr=1.0), **options)
    return build_optim_wrapper(model or nn.Linear(2, 1), cfg)


@pytest.fixture
def log_lines(monkeypatch) -> list[str]:
    lines: list[str] = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'handle', lambda record: lines.append(record.getMessage()))
    return lines


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU: enough to build the wrapper, which moves nothing there."""
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_plain_on_a_cpu_with_one_notice(log_lines):
    model = nn.Linear(2, 1)
    wrapper = build(model, accumulative_counts=2, clip_grad=dict(max_norm=1.0), loss_scale='dynamic', dtype='float16')
    assert type(wrapper) is OptimWrapper
    assert sum('float32 instead of mixed precision' in line for line in log_lines) == 1

    weight, before = model.weight, model.weight.detach().clone()
    wrapper.initialize_count_status(model, 0, 2)
    wrapper.update_params(100 * weight.sum())
    assert torch.equal(weight, before)  # accumulates over two
    wrapper.update_params(100 * weight.sum())
    assert (before - weight).norm().item() == pytest.approx(1.0, rel=1e-4)  # clipped


@pytest.mark.parametrize(
    ('native', 'dtype', 'fixed_scale'),
    [(True, torch.bfloat16, 1.0), (False, torch.float16, None)],
    ids=['bf16', 'fp16'],
)
def test_type_that_the_gpu_computes_in(gpu, monkeypatch, native, dtype, fixed_scale):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: native)
    wrapper = build(accumulative_counts=3)
    assert type(wrapper) is AmpOptimWrapper and wrapper._accumulative_counts == 3
    assert wrapper.cast_dtype is dtype
    assert wrapper._scale_update_param == fixed_scale  # None: dynamic


def test_what_the_config_says_counts(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: True)
    wrapper = build(dtype='float16', loss_scale=512.0)
    assert wrapper.cast_dtype is torch.float16 and wrapper._scale_update_param == 512.0
