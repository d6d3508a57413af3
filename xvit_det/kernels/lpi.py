"""Local patch interaction in one kernel: tokens are read from memory once and written once.

A program walks down a few columns of the map. Triton cannot shift a tile sideways, so the input of the second
convolution is computed three times, once per column of its kernel, from tokens that are in the cache by then.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from xvit_det.kernels import autocast_dtype, on_device_of

_ROWS, _COLUMNS, _CHANNELS = 8, 8, 64  # outputs of one program


def local_patch_interaction(
    x: Tensor,
    size: tuple[int, int],
    valid: Tensor | None,
    weight1: Tensor,
    bias1: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight2: Tensor,
    bias2: Tensor,
) -> Tensor:
    """:class:`xvit_det.layers.LocalPatchInteraction` whose norm is ``scale · x + shift``.

    Args:
        x: Tokens (B, N, C), not modified.
        size: (h, w) with h·w = N.
        valid: (B, N), or ``None``.
        weight1, weight2: Of the convolutions, (C, 1, 3, 3).
        bias1, scale, shift, bias2: (C,).

    Returns:
        Tokens (B, N, C).
    """
    b, h, w, c = x.unflatten(1, size).shape
    x = x if x.stride(-1) == 1 else x.contiguous()
    out = torch.empty(x.shape, dtype=autocast_dtype(x), device=x.device)
    mask = x if valid is None else valid.expand(b, h * w)
    channels = min(_CHANNELS, triton.next_power_of_2(c))
    grid = (triton.cdiv(h, _ROWS) * triton.cdiv(w, _COLUMNS), triton.cdiv(c, channels), b)
    with on_device_of(x):
        _lpi[grid](
            x, mask, weight1.contiguous(), bias1, scale, shift, weight2.contiguous(), bias2, out, h, w,
            *x.stride()[:2], *mask.stride()[:2],
            MASKED=valid is not None, C=c, ROWS=_ROWS, COLUMNS=_COLUMNS, CHANNELS=channels,
        )  # fmt: skip
    return out


@triton.jit
def _lpi(
    x, valid, weight1, bias1, scale, shift, weight2, bias2, out, height, width, x_b, x_n, valid_b, valid_n,
    MASKED: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """``ROWS`` x ``COLUMNS`` x ``CHANNELS`` outputs; grid (tiles of the map, blocks of channels, B)."""
    strips = tl.cdiv(width, COLUMNS)
    top = tl.program_id(0) // strips * ROWS
    column = tl.program_id(0) % strips * COLUMNS + tl.arange(0, COLUMNS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    b = tl.program_id(2).to(tl.int64)
    x += b * x_b + channel[None, :]
    valid += b * valid_b
    out += b * height * width * C + channel[None, :]

    a0, a1, a2 = _taps(weight1, channel, 0, C)
    a3, a4, a5 = _taps(weight1, channel, 1, C)
    a6, a7, a8 = _taps(weight1, channel, 2, C)
    b0, b1, b2 = _taps(weight2, channel, 0, C)
    b3, b4, b5 = _taps(weight2, channel, 1, C)
    b6, b7, b8 = _taps(weight2, channel, 2, C)
    bias1, bias2 = _vector(bias1, channel, C), _vector(bias2, channel, C)
    scale, shift = _vector(scale, channel, C), _vector(shift, channel, C)

    # Sums of the output rows above the current one and at it, over the rows seen so far.
    zero = tl.zeros((COLUMNS, CHANNELS), tl.float32)
    above, here = zero, zero
    for row in range(top - 1, top + ROWS + 1):
        left, middle, right = zero + bias1, zero + bias1, zero + bias1
        left, middle, right = _add_row(
            left, middle, right, a0, a1, a2, x, valid, row - 1, column, channel, height, width, x_n, valid_n, MASKED, C
        )
        left, middle, right = _add_row(
            left, middle, right, a3, a4, a5, x, valid, row, column, channel, height, width, x_n, valid_n, MASKED, C
        )
        left, middle, right = _add_row(
            left, middle, right, a6, a7, a8, x, valid, row + 1, column, channel, height, width, x_n, valid_n, MASKED, C
        )
        # The second convolution sees zeros outside the map and at padding, not the shift.
        left = _between(left, scale, shift, valid, row, column - 1, height, width, valid_n, MASKED)
        middle = _between(middle, scale, shift, valid, row, column, height, width, valid_n, MASKED)
        right = _between(right, scale, shift, valid, row, column + 1, height, width, valid_n, MASKED)
        above += b6 * left + b7 * middle + b8 * right
        inside = ((row > top) & (row <= height) & (column < width))[:, None] & (channel < C)[None, :]
        place = out + ((row - 1) * width + column)[:, None] * C
        tl.store(place, (above + bias2).to(out.dtype.element_ty), mask=inside)
        above = here + b3 * left + b4 * middle + b5 * right
        here = b0 * left + b1 * middle + b2 * right


@triton.jit
def _add_row(
    left, middle, right, w0, w1, w2, x, valid, row, column, channel, height, width, x_n, valid_n,
    MASKED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add one row of tokens times three taps to the sums at the columns before, at and after ``column``."""
    t0 = _tokens(x, valid, row, column - 2, channel, height, width, x_n, valid_n, MASKED, C)
    t1 = _tokens(x, valid, row, column - 1, channel, height, width, x_n, valid_n, MASKED, C)
    t2 = _tokens(x, valid, row, column, channel, height, width, x_n, valid_n, MASKED, C)
    t3 = _tokens(x, valid, row, column + 1, channel, height, width, x_n, valid_n, MASKED, C)
    t4 = _tokens(x, valid, row, column + 2, channel, height, width, x_n, valid_n, MASKED, C)
    left += w0 * t0 + w1 * t1 + w2 * t2
    middle += w0 * t1 + w1 * t2 + w2 * t3
    right += w0 * t2 + w1 * t3 + w2 * t4
    return left, middle, right


@triton.jit
def _tokens(x, valid, row, column, channel, height, width, x_n, valid_n, MASKED: tl.constexpr, C: tl.constexpr):
    """Load tokens (COLUMNS, CHANNELS), zero outside the map and at padding."""
    shown = _shown(valid, row, column, height, width, valid_n, MASKED)
    inside = shown[:, None] & (channel < C)[None, :]
    return tl.load(x + (row * width + column)[:, None] * x_n, mask=inside, other=0).to(tl.float32)


@triton.jit
def _between(x, scale, shift, valid, row, column, height, width, valid_n, MASKED: tl.constexpr):
    """GELU and norm of the first convolution's output, zero outside the map and at padding."""
    gelu = 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    return tl.where(_shown(valid, row, column, height, width, valid_n, MASKED)[:, None], scale * gelu + shift, 0.0)


@triton.jit
def _shown(valid, row, column, height, width, valid_n, MASKED: tl.constexpr):
    """(COLUMNS,), true inside the map and outside the padding."""
    shown = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    if MASKED:
        shown &= tl.load(valid + (row * width + column) * valid_n, mask=shown, other=0) != 0
    return shown


@triton.jit
def _taps(weight, channel, row, C: tl.constexpr):
    """Load one row of every channel's 3x3 weights: 3 x (1, CHANNELS)."""
    return (
        _vector(weight, channel * 9 + row * 3, C * 9),
        _vector(weight, channel * 9 + row * 3 + 1, C * 9),
        _vector(weight, channel * 9 + row * 3 + 2, C * 9),
    )


@triton.jit
def _vector(values, index, SIZE: tl.constexpr):
    return tl.load(values + index, mask=index < SIZE, other=0).to(tl.float32)[None, :]
