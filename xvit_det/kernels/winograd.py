"""Winograd's algorithm for convolutions of 3 x 3: 2.25 products per output instead of 9.

Each tile of 4 x 4 outputs depends on 6 x 6 inputs. Inputs and filters are evaluated at 36 points, where convolution
becomes multiplication, see "Fast Algorithms for Convolutional Neural Networks" (Lavin and Gray, CVPR 2016),
F(4 x 4, 3 x 3). There 36 matrix products sum over the channels. Each transform is a small matrix product as well, so
nearly all time is spent in matrix products.

Whether that is faster than PyTorch's convolution depends on the CPU, so a trial on the machine at hand decides;
``XVIT_DET_CONV=winograd`` or ``torch`` decides without it.
"""

import functools
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.kernels import _is_plain, is_exporting
from xvit_det.kernels.choice import asked, measured_speedup

VARIABLE, CHOICES = 'XVIT_DET_CONV', ('auto', 'winograd', 'torch')
MIN_CHANNELS = 128  # below it the transforms cost as much as is saved
MARGIN = 1.1  # noise must not decide in its favour
OUT, IN = 4, 6  # sides of a tile of outputs and of the inputs that it depends on
# The sixth is infinity. These keep the numbers of all steps alike: for 256 channels the rounding errors are 1.4e-6 of
# the outputs. They are 3.2e-6 with the usual 0, 1, -1, 2 and -2, and 0.2e-6 to 0.9e-6 in PyTorch's convolutions.
POINTS = (0.0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
TILES = 128  # computed at once, for the processor's cache; 64 to 512 were tried with AVX2 and AVX-512


class WinogradConv2d(nn.Conv2d):
    """A convolution of 3 x 3 that is computed by :func:`convolve` where that is faster, in inference on a CPU.

    Args:
        conv: The layer whose weight and bias it takes over, one that :func:`is_suited` accepts.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 3, padding=1, bias=False, device='meta')
        self.weight, self.bias = conv.weight, conv.bias
        self._filters: tuple[Tensor, Tensor] | None = None  # made from which weight, and what they are

    def forward(self, x: Tensor) -> Tensor:
        if not _applies(x, self.weight, self.bias) or not is_chosen():
            return super().forward(x)
        weight = self.weight.detach()
        if self._filters is None or not torch.equal(self._filters[0], weight):  # others may have been loaded
            self._filters = weight.clone(), transform_filters(weight)
        return convolve(x, self._filters[1], self.bias)

    def __getstate__(self) -> dict:
        return vars(self) | {'_filters': None}  # copies and files have the weight


def is_suited(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether :class:`WinogradConv2d` computes what a layer does, and may gain from it."""
    return (
        type(conv) is nn.Conv2d  # a subclass may compute something else, and so may a hook
        and not conv._forward_pre_hooks
        and not conv._forward_hooks
        and 'forward' not in vars(conv)
        and (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and conv.padding in ((1, 1), 'same')
        and conv.padding_mode == 'zeros'
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
    )


def is_chosen() -> bool:
    """Whether suited convolutions of fused models are computed by :func:`convolve`.

    Raises:
        InputError: The environment asks for something else than one of ``CHOICES``.
    """
    choice = asked(VARIABLE, CHOICES)
    return choice == 'winograd' or choice == 'auto' and speedup(torch.get_num_threads()) > MARGIN


@functools.cache
@torch.no_grad()
def speedup(threads: int) -> float:
    """How many times as fast :func:`convolve` is as PyTorch's convolution.

    Takes a tenth of a second, once in a process.

    Args:
        threads: How many PyTorch computes with now; another number is another trial.
    """
    random = torch.Generator().manual_seed(0)  # leaves the global random state alone
    x, weight = torch.randn(1, 256, 32, 48, generator=random), torch.randn(256, 256, 3, 3, generator=random)
    x, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, weight))
    filters = transform_filters(weight)
    return measured_speedup(lambda: F.conv2d(x, weight, padding=1), lambda: convolve(x, filters, None))


def transform_filters(weight: Tensor) -> Tensor:
    """Filters at the 36 points: (O, C, 3, 3) -> (36, C, O)."""
    powers = _at_points(3)  # (6, 3)
    scales = F.pad(torch.stack([p - _others(p) for p in _points()]).prod(1), (0, 1), value=1)
    side = powers / scales[:, None]
    return torch.einsum('py,qx,ocyx->pqco', side, side, weight.double()).flatten(0, 1).to(weight.dtype).contiguous()


def convolve(x: Tensor, filters: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution with a stride of 1 and a border of one zero.

    Args:
        x: (B, C, H, W); channels-last maps are not copied.
        filters: Of :func:`transform_filters`, (36, C, O).
        bias: (O,)

    Returns:
        (B, O, H, W), channels-last.
    """
    (batch, channels, height, width), out_channels = x.shape, filters.shape[2]
    to_points, from_points = _transforms(x.dtype)
    rows, columns = -(-height // OUT), -(-width // OUT)  # of tiles; the last ones hang over
    border = (0, 0, 1, OUT * columns + 1 - width, 1, OUT * rows + 1 - height)
    padded = F.pad(x.permute(0, 2, 3, 1), border).contiguous()
    image, row, column, _ = padded.stride()
    tiles = padded.as_strided(
        (IN, IN, batch, rows, columns, channels), (row, column, image, OUT * row, OUT * column, 1)
    )
    out = x.new_empty(batch, rows, OUT, columns, OUT, out_channels)
    results = out.permute(2, 4, 0, 1, 3, 5)  # (4, 4, B, rows, columns, O)
    bias = x.new_zeros(1) if bias is None else bias
    images = max(1, TILES // (rows * columns))
    lines = rows if images > 1 else max(1, TILES // columns)
    n = images * lines * columns
    wide = x.new_empty(2, IN * IN * n * max(channels, out_channels))  # buffers that stay in the cache
    for i in range(0, batch, images):
        for j in range(0, rows, lines):
            part, result = tiles[:, :, i : i + images, j : j + lines], results[:, :, i : i + images, j : j + lines]
            n = result[0, 0, ..., 0].numel()
            given = _shaped(wide[0], *part.shape).copy_(part).view(IN * IN, -1)
            given = torch.mm(to_points, given, out=_shaped(wide[1], IN * IN, n * channels)).view(IN * IN, n, channels)
            sums = torch.bmm(given, filters, out=_shaped(wide[0], IN * IN, n, out_channels)).view(IN * IN, -1)
            sums = torch.mm(from_points, sums, out=_shaped(wide[1], OUT * OUT, n * out_channels))
            torch.add(sums.view(result.shape), bias, out=result)
    out = out.view(batch, rows * OUT, columns * OUT, out_channels)[:, :height, :width]
    return out.contiguous().permute(0, 3, 1, 2)


def _applies(x: Tensor, *parameters: Tensor | None) -> bool:
    tensors = [x, *(parameter for parameter in parameters if parameter is not None)]
    return (
        x.device.type == 'cpu'
        and all(each.dtype == torch.float32 and _is_plain(each) for each in tensors)
        and x.ndim == 4
        and x.numel() > 0
        and not (torch.is_grad_enabled() and any(each.requires_grad for each in tensors))
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
        and not is_exporting()
    )


@functools.cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Matrices that take a tile's 36 inputs to the points, (36, 36), and from there to its 16 outputs, (16, 36)."""
    rows = [F.pad(_polynomial(_others(p)), (0, 1)) for p in _points()] + [_polynomial(_points())]
    to_points, from_points = torch.stack(rows), _at_points(OUT).T  # (6, 6), (4, 6)
    return torch.kron(to_points, to_points).to(dtype), torch.kron(from_points, from_points).to(dtype)


def _points() -> Tensor:
    return torch.tensor(POINTS, dtype=torch.float64)


def _others(point: Tensor) -> Tensor:
    return _points()[_points() != point]


def _at_points(terms: int) -> Tensor:
    """Powers of each point, of infinity the last one: (6, terms)."""
    powers = _points()[:, None] ** torch.arange(terms)
    return torch.cat([powers, F.one_hot(torch.tensor([terms - 1]), terms)])


def _polynomial(roots: Tensor) -> Tensor:
    """Coefficients of the polynomial with these roots, the constant first: (n,) -> (n + 1,)."""
    coefficients = roots.new_ones(1)
    for root in roots:
        coefficients = F.pad(coefficients, (1, 0)) - root * F.pad(coefficients, (0, 1))
    return coefficients


def _shaped(buffer: Tensor, *shape: int) -> Tensor:
    return buffer[: torch.Size(shape).numel()].view(shape)
