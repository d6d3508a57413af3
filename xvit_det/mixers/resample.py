"""Learned tables that belong to a grid of tokens, fitted to another grid."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


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
    maps = rows.float().T.unflatten(1, grid)[None]  # (h·w, C) -> (1, C, h, w)
    maps = F.interpolate(maps, size=size, mode='bicubic', align_corners=False)
    return maps[0].flatten(1).T.to(rows.dtype)


def adapt_rows(rows: Tensor, grid: tuple[int, int], num_prefix: int, keep_sum: bool = False) -> Tensor | None:
    """Fit a table from a checkpoint to a grid: leave out rows of class tokens, resample the others.

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
        known = tuple(grid) if number == grid[0] * grid[1] else (side, side)
        if number >= 1 and prefix >= num_prefix and known[0] * known[1] == number:
            scale = number / (grid[0] * grid[1]) if keep_sum else 1.0
            return torch.cat((rows[prefix - num_prefix : prefix], scale * resample_rows(rows[prefix:], known, grid)))
    return None
