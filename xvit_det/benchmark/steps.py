"""What is timed and measured: one call of a model for inference, or one training step, in a mode and a dtype."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xvit_det.benchmark.models import NotPossible, Size, build, cast, size_name
from xvit_det.errors import InputError
from xvit_det.kernels.onednn import linear

Step = Callable[[], object]
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
# torch.OutOfMemoryError, NotImplementedError and dynamo's errors are RuntimeErrors; a ValueError refuses a size.
FAILURES = (RuntimeError, ValueError)
MODES = ('eager', 'compiled', 'fused', 'fused-compiled', 'training', 'training-compiled')


@dataclass(frozen=True)
class Case:
    """What one measurement is of, but for the model: the same for all models that are compared.

    Args:
        size: Height and width of the images in pixels.
        batch: Images in a call.
        dtype: One of ``DTYPES``. Inference has weights and images in it; training keeps fp32 weights and autocasts.
        mode: One of ``MODES``.
        device: ``'cpu'`` or ``'cuda'``.
    """

    size: Size
    batch: int
    dtype: str
    mode: str
    device: str = 'cpu'

    @property
    def training(self) -> bool:
        return self.mode.startswith('training')

    def __str__(self) -> str:
        return f'{size_name(self.size)}, batch {self.batch}, {self.dtype}, {self.mode}'

    def keys(self, model: str) -> dict:
        """The part of a result's row that says what was measured."""
        return dict(model=model, size=size_name(self.size), batch=self.batch, dtype=self.dtype, mode=self.mode)


def make_step(model: nn.Module, case: Case, compile_mode: str = 'default') -> Step:
    """The call that a case describes, of this model.

    Args:
        model: A backbone; it is changed (fused, cast, moved to the device).
        case: See :class:`Case`.
        compile_mode: ``mode`` of ``torch.compile``.

    Raises:
        NotPossible: The model cannot be fused, or there is no compiler.
    """
    torch.manual_seed(0)
    if case.mode.startswith('fused'):
        if not hasattr(model, 'fuse'):
            raise NotPossible(f'{type(model).__name__} has no fuse()')
        model.eval().fuse()
    model = model.to(case.device)
    images = torch.randn(case.batch, 3, *case.size, device=case.device)
    forward = model
    if case.mode.endswith('compiled'):
        if problem := compiler_problem(case.device):
            raise NotPossible(problem)
        forward = torch.compile(model, mode=compile_mode, dynamic=False)
    if case.training:
        model.train()
        return _training_step(model, forward, images, case)
    model.eval()
    cast(model, DTYPES[case.dtype])
    images = images.to(DTYPES[case.dtype])

    def infer() -> None:
        with torch.no_grad():
            forward(images)

    return infer


def _training_step(model: nn.Module, forward: Callable, images: Tensor, case: Case) -> Step:
    """Forward, a loss on all outputs, backward, AdamW; with autocast, and for fp16 a scaled loss, as users train."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler(case.device, enabled=case.dtype == 'fp16')

    def train() -> None:
        optimizer.zero_grad()
        with torch.autocast(case.device, DTYPES[case.dtype], enabled=case.dtype != 'fp32'):
            loss = sum(out.float().square().mean() for out in forward(images))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return train


def build_step(name: str, case: Case, compile_mode: str = 'default', **options: bool) -> Step:
    """:func:`make_step` of a model by name, called once, so that it is compiled and known to run.

    Raises:
        NotPossible: The case does not exist for this model, or fails: out of memory, no kernel for this dtype.
    """
    model = build(name, case.size, **options)
    step = make_step(model, case, compile_mode)
    try:
        step()
    except FAILURES as error:
        raise failure(name, case, error) from error
    return step


def failure(name: str, case: Case, error: Exception) -> NotPossible:
    """The reason to print for a call that failed."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return NotPossible(f'{name}, {case}, fails: {lines[0]}')


def compiler_problem(device: str) -> str | None:
    """Why ``torch.compile`` cannot work here, if so."""
    if device == 'cpu' and not shutil.which(os.environ.get('CXX', 'g++')) and not shutil.which('clang++'):
        return 'torch.compile needs a C++ compiler (g++ or clang++) for the CPU, and there is none'
    if device != 'cpu' and importlib.util.find_spec('triton') is None:
        return 'torch.compile needs Triton for the GPU, which is not installed'
    return None


def check_device(device: str) -> None:
    """Raise if this machine has no such device.

    Raises:
        InputError: An unknown device, or a GPU where there is none.
    """
    if device not in ('cpu', 'cuda'):
        raise InputError(f'device {device!r} is not one of cpu, cuda')
    if device == 'cuda' and not torch.cuda.is_available():
        raise InputError('device cuda: PyTorch finds no CUDA device here')


def matrix_products(case: Case) -> tuple[dict[str, Step], int]:
    """A large matrix product in the case's dtype, by each library that a model's linear layers may use, and its
    operations: the fastest is the most that the machine is known to do."""
    side = 2048 if case.device == 'cpu' else 8192
    a, b = torch.randn(2, side, side, device=case.device, dtype=DTYPES[case.dtype]).unbind()
    out = torch.empty_like(a)
    # The weight is transposed, as in a linear layer: the fastest way round.
    products: dict[str, Step] = {'torch.mm': lambda: torch.mm(a, b.t(), out=out)}
    if case.device == 'cpu':
        products['linear of fused models'] = lambda: linear(a, b, None)
    return products, 2 * side**3
