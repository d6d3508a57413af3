"""XNorm attention in two passes over the tokens: one reads k and v, the other reads q and writes the output.

Between them ``kᵀ v`` is one small matrix per image and head. It is summed in float32 over parts of the tokens, so that
one image fills a GPU, and the parts are added in a fixed order, so that results are reproducible.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from xvit_det.kernels import INTERPRETED, autocast_dtype, on_device_of

_MAX_PARTS = 64  # of an image's tokens, each with its own sum
# Elements of a tile, which decide the shared memory and registers of a program.
_TOKENS_TILE = 4096
_PARTS_TILE = 8192


def xnorm_attention(
    q: Tensor, k: Tensor, v: Tensor, gamma: Tensor | None, kv_axis: int, valid: Tensor | None
) -> Tensor:
    """:func:`xvit_det.mixers.xnorm_attention` of q (B, H, M, c), k and v (B, H, N, c), with any strides.

    Returns:
        (B, H, M, c), a view of (B, M, H, c): merging the heads costs nothing.
    """
    dtype = autocast_dtype(q)
    q, k, v = (_with_dense_rows(x.to(dtype)) for x in (q, k, v))
    (b, h, m, c), n = q.shape, k.shape[2]
    width = max(16, triton.next_power_of_2(c))  # of a tile; tl.dot needs at least 16
    block = min(128, _TOKENS_TILE // width)  # tokens at a time
    steps = (n - 1) // (block * _MAX_PARTS) + 1  # blocks of tokens in a part
    parts = (n - 1) // (block * steps) + 1
    sums = torch.empty(b, h, parts, c, c, dtype=torch.float32, device=q.device)
    kv = torch.empty(b, h, c, c, dtype=dtype, device=q.device)
    out = torch.empty(b, m, h, c, dtype=dtype, device=q.device)
    mask = k if valid is None else valid.expand(b, n)
    scale = sums if gamma is None else gamma.expand(b, h, c, c)
    sizes = dict(H=h, C=c, WIDTH=width)
    product = dict(BLOCK=block, WIDEN=INTERPRETED)
    with on_device_of(q):
        _sum_kv[(parts, h, b)](
            k, v, mask, sums, n, steps, *k.stride()[:3], *v.stride()[:3], *mask.stride()[:2],
            MASKED=valid is not None, **sizes, **product, num_stages=2,
        )  # fmt: skip
        _normalise_kv[(h, b)](
            sums, scale, kv, parts, *scale.stride()[:4],
            SCALED=gamma is not None, AXIS=kv_axis + 2, PARTS=_PARTS_TILE // width**2, **sizes,
        )  # fmt: skip
        _apply_kv[(triton.cdiv(m, block), h, b)](q, kv, out, m, *q.stride()[:3], **sizes, **product)
    return out.transpose(1, 2)


def _with_dense_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@triton.jit
def _sum_kv(
    k, v, valid, sums, n, steps, k_b, k_h, k_n, v_b, v_h, v_n, valid_b, valid_n,
    MASKED: tl.constexpr, H: tl.constexpr, C: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Sum ``kᵀ v`` (C, C) over one part of the tokens of one head; grid (parts, H, B)."""
    part, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    channels = tl.arange(0, WIDTH)
    total = tl.zeros((WIDTH, WIDTH), tl.float32)
    for step in range(steps):
        tokens = (part * steps + step) * BLOCK + tl.arange(0, BLOCK)
        counts = tokens < n
        if MASKED:
            counts &= tl.load(valid + b * valid_b + tokens * valid_n, mask=counts, other=0) != 0
        inside = counts[:, None] & (channels < C)[None, :]
        keys = tl.load(k + b * k_b + h * k_h + tokens[:, None] * k_n + channels[None, :], mask=inside, other=0)
        values = tl.load(v + b * v_b + h * v_h + tokens[:, None] * v_n + channels[None, :], mask=inside, other=0)
        total += _matmul(tl.trans(keys), values, WIDEN)
    offsets = channels[:, None] * C + channels[None, :]
    inside = (channels < C)[:, None] & (channels < C)[None, :]
    tl.store(sums + ((b * H + h) * tl.num_programs(0) + part) * C * C + offsets, total, mask=inside)


@triton.jit
def _normalise_kv(
    sums, gamma, kv, parts, gamma_b, gamma_h, gamma_k, gamma_v,
    SCALED: tl.constexpr, AXIS: tl.constexpr, PARTS: tl.constexpr, H: tl.constexpr, C: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """Add the parts of ``kᵀ v``, scale its vectors along ``AXIS`` to unit length times gamma; grid (H, B)."""
    h, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows, columns = tl.arange(0, WIDTH)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (rows < C) & (columns < C)
    offsets = rows * C + columns
    total = tl.zeros((WIDTH, WIDTH), tl.float32)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)[:, None, None]
        start = sums + (b * H + h) * parts * C * C
        total += tl.sum(tl.load(start + part * C * C + offsets[None], mask=(part < parts) & inside[None], other=0), 0)
    unit = total / _norm(total, AXIS)
    if SCALED:
        scale = gamma + b * gamma_b + h * gamma_h + rows * gamma_k + columns * gamma_v
        unit *= tl.load(scale, mask=inside, other=0).to(tl.float32)
    tl.store(kv + (b * H + h) * C * C + offsets, unit.to(kv.dtype.element_ty), mask=inside)


@triton.jit
def _apply_kv(
    q, kv, out, m, q_b, q_h, q_m,
    H: tl.constexpr, C: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Multiply unit queries by one head's matrix; grid (blocks of queries, H, B)."""
    h, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    tokens = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    rows, columns = tl.arange(0, WIDTH)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (tokens < m) & (columns < C)
    queries = tl.load(q + b * q_b + h * q_h + tokens * q_m + columns, mask=inside, other=0)
    matrix = tl.load(kv + (b * H + h) * C * C + rows * C + columns, mask=(rows < C) & (columns < C), other=0)
    result = _matmul(queries, matrix, WIDEN) / _norm(queries.to(tl.float32), 1)
    tl.store(out + ((b * m + tokens) * H + h) * C + columns, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm(x, AXIS: tl.constexpr):
    """L2 norms along an axis; 1 for vectors too short to normalize."""
    norm = tl.sqrt(tl.sum(x * x, AXIS, keep_dims=True))
    return tl.where(norm > 1e-12, norm, 1.0)


@triton.jit
def _matmul(a, b, WIDEN: tl.constexpr):
    """Accumulate in float32; the interpreter has no bfloat16 product."""
    if WIDEN:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision='ieee')
