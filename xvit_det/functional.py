"""Tensor helpers without parameters."""

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec('P')
R = TypeVar('R')


def tokens_to_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, C) -> (B, C, h, w), N = h·w in row-major order; a channels-last view."""
    # In this order the strides are channels-last for a batch of one as well, which is how convolutions recognize it.
    return x.unflatten(1, size).permute(0, 3, 1, 2)


def map_to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, N, C); a view of a channels-last map."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, H·d) -> (B, H, N, d)."""
    return x.unflatten(2, (num_heads, -1)).transpose(1, 2)


def split_parts(x: Tensor, num_heads: int, parts: int) -> Sequence[Tensor]:
    """One projection for several uses, such as q, k and v: (B, N, parts·H·d) -> ``parts`` tensors (B, H, N, d)."""
    return x.unflatten(2, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, d) -> (B, N, H·d)."""
    return x.transpose(1, 2).flatten(2)


def upcast(x: Tensor) -> Tensor:
    """Convert half precision to float32; leave float32 and float64 unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit_vectors(x: Tensor, dim: int) -> Tensor:
    """Divide ``x`` by its L2 norm along ``dim``; vectors shorter than 1e-12, and their gradients, are left unchanged.

    Squares are summed in float32 or wider: in float16 they overflow from 256 on, and an epsilon that float16 can
    represent would distort small vectors.
    """
    wide = upcast(x)
    norm = torch.linalg.vector_norm(wide, dim=dim, keepdim=True)
    return (wide / torch.where(norm > 1e-12, norm, 1)).to(x.dtype)


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Switch autocast off on the tensor's device; the ``meta`` device, used for counting operations, has none."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """``torch.compiler.disable`` that does not import the compiler, which takes half a second, before it is used."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def pad_amount(number: int, multiple: int) -> int:
    """Padding needed to reach the next multiple; TorchInductor cannot compile ``-number % multiple`` for all sizes."""
    return (multiple - number % multiple) % multiple


def gelu_(x: Tensor) -> Tensor:
    """GELU, written over its input unless a gradient is recorded: pass a tensor that nothing else needs.

    Allocating a new tensor of a large map's size takes longer than the function itself.
    """
    return F.gelu(x) if torch.is_grad_enabled() and x.requires_grad else torch.ops.aten.gelu_(x)


def resample_rows(rows: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Resample a table with one row for each token, bicubically, as ``C`` maps.

    Args:
        rows: (h·w, C) for the grid (h, w).
        grid: The table's grid.
        size: The new grid (h', w').

    Returns:
        (h'·w', C).
    """
    if tuple(grid) == tuple(size):
        return rows
    maps = upcast(rows).T.unflatten(1, grid)[None]  # (h·w, C) -> (1, C, h, w)
    maps = F.interpolate(maps, size=size, mode='bicubic', align_corners=False)
    return maps[0].flatten(1).T.to(rows.dtype)


def resample_rows_inside(rows: Tensor, grid: tuple[int, int], size: tuple[int, int], extents: Tensor) -> Tensor:
    """:func:`resample_rows` to the area that each image of a padded batch covers, at the top left of a larger map.

    Args:
        rows: (h·w, C) for the grid (h, w).
        grid: The table's grid.
        size: The size (h', w') of the padded map.
        extents: (B, 2), rows and columns that each image covers.

    Returns:
        (B, h'·w', C), without meaning outside the images.
    """
    maps = upcast(rows).T.unflatten(1, grid).expand(len(extents), -1, -1, -1)  # (h·w, C) -> (B, C, h, w)
    # Where the centres of tokens lie in the table, whose edges are at -1 and 1.
    y, x = (
        (torch.arange(length, device=rows.device) + 0.5) * 2 / extent[:, None] - 1  # (B, length)
        for length, extent in zip(size, extents.unbind(1), strict=True)
    )
    y, x = y[:, :, None].expand(-1, -1, size[1]), x[:, None].expand(-1, size[0], -1)  # 2 x (B, h', w')
    places = torch.stack((x, y), dim=-1).to(maps.dtype)
    maps = F.grid_sample(maps, places, mode='bicubic', padding_mode='border', align_corners=False)
    return map_to_tokens(maps).to(rows.dtype)


def mean_token(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """(B, N, C) -> (B, C), over the tokens that are ``valid`` (B, N)."""
    if valid is None:
        return x.mean(dim=1)
    weight = valid.to(x.dtype)[..., None]
    return (x * weight).sum(dim=1) / weight.sum(dim=1)


def adapt_rows(rows: Tensor, grid: tuple[int, int], num_prefix: int, keep_sum: bool = False) -> Tensor | None:
    """Fit a table from a checkpoint to a grid: drop the rows of class tokens that are not wanted, resample the others.

    Args:
        rows: (N, C), at most one class token's row first, then those of a grid: either the one asked for or a square.
        grid: (h, w) asked for.
        num_prefix: Rows wanted before the grid's.
        keep_sum: Scale the resampled rows so that sums over all tokens keep their size.

    Returns:
        (num_prefix + h·w, C), or ``None`` if the table cannot be understood that way.
    """
    for prefix in (0, 1):
        number = len(rows) - prefix
        side = math.isqrt(max(number, 0))
        known = grid if number == grid[0] * grid[1] else (side, side)
        if number >= 1 and prefix >= num_prefix and known[0] * known[1] == number:
            scale = number / (grid[0] * grid[1]) if keep_sum else 1.0
            return torch.cat((rows[prefix - num_prefix : prefix], scale * resample_rows(rows[prefix:], known, grid)))
    return None
