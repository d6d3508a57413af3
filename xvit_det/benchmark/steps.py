"""What is timed: a forward pass or a training step, in a given mode and dtype."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from xvit_det.benchmark.cases import DTYPES, Case
from xvit_det.benchmark.models import NotPossible, build, cast
from xvit_det.kernels.onednn import linear

Step = Callable[[], object]


def build_step(name: str, case: Case) -> Step:
    """:func:`make_step` of a model by name, called once, so that it is compiled and known to run.

    Raises:
        NotPossible: The case does not exist for this model, or fails: out of memory, no kernel for this dtype.
    """
    step = make_step(build_model(name, case), case)
    with failures_as_reasons(name, case):
        step()
    return step


def build_model(name: str, case: Case) -> nn.Module:
    """The model of a case, see :func:`xvit_det.benchmark.models.build`."""
    return build(name, case.size, **(dict(with_cp=True) if case.with_cp else {}))


def make_step(model: nn.Module, case: Case) -> Step:
    """The call of this model that a case describes.

    Args:
        model: A backbone. It is modified: fused, cast, moved to the device.
        case: See :class:`Case`.

    Raises:
        NotPossible: The model cannot be fused, or there is no compiler.
    """
    torch.manual_seed(0)
    if case.mode.startswith('fused'):
        fuse = getattr(model, 'fuse', None)
        if fuse is None:
            raise NotPossible(f'{type(model).__name__} has no fuse()')
        model.eval()
        fuse()
    model = model.to(case.device)
    images = torch.randn(case.batch, 3, *case.size, device=case.device)
    forward: Callable = model
    if case.mode.endswith('compiled'):
        if problem := compiler_problem(case.device):
            raise NotPossible(problem)
        forward = torch.compile(model, dynamic=False)
    dtype = torch_dtype(case)
    model.train(case.training)  # not chained: mmpretrain's return None
    if case.training:
        return _training_step(model, forward, images, dtype)
    cast(model, dtype)
    images = images.to(dtype)

    def infer() -> None:
        with torch.no_grad():
            forward(images)

    return infer


def _training_step(model: nn.Module, forward: Callable, images: Tensor, dtype: torch.dtype) -> Step:
    """Forward, a loss on all outputs, backward, AdamW; with autocast, and loss scaling for fp16."""
    device = images.device.type
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)

    def train() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = sum(out.float().square().mean() for out in forward(images))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return train


def torch_dtype(case: Case) -> torch.dtype:
    return getattr(torch, DTYPES[case.dtype])


@contextmanager
def failures_as_reasons(name: str, case: Case) -> Iterator[None]:
    """Turn the errors of a call that does not fit the model or the machine into :class:`NotPossible`."""
    try:
        yield
    # torch.OutOfMemoryError, NotImplementedError and dynamo's errors are RuntimeErrors; a ValueError rejects a size.
    except (RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NotPossible(f'{name}, {case}, fails: {lines[0]}') from error


def compiler_problem(device: str) -> str | None:
    """Why ``torch.compile`` cannot work here, or ``None``."""
    if device == 'cpu' and not shutil.which(os.environ.get('CXX', 'g++')) and not shutil.which('clang++'):
        return 'torch.compile needs a C++ compiler (g++ or clang++) for the CPU, and there is none'
    if device != 'cpu' and importlib.util.find_spec('triton') is None:
        return 'torch.compile needs Triton for the GPU, which is not installed'
    return None


def matrix_products(case: Case) -> tuple[dict[str, Step], int]:
    """Large matrix products in the case's dtype, one by each library that a model's linear layers may use.

    Returns:
        The products by name, and the operations of each. The fastest is our estimate of the machine's peak.
    """
    side = 2048 if case.device == 'cpu' else 8192
    a, b = torch.randn(2, side, side, device=case.device, dtype=torch_dtype(case)).unbind()
    out = torch.empty_like(a)
    # The weight is transposed, as in a linear layer, which is the fastest layout.
    products: dict[str, Step] = {'torch.mm': lambda: torch.mm(a, b.t(), out=out)}
    if case.device == 'cpu':
        products['linear of fused models'] = lambda: linear(a, b, None)
    return products, 2 * side**3
