"""Position encodings for any image size."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.functional import adapt_rows, resample_rows, resample_rows_inside


class FourierPosition(nn.Module):
    """Sines and cosines of the row and the column, projected to the tokens' width, as in XCiT (arXiv 2106.09681).

    Rows and columns are counted from 1 and scaled to 2π over the map, so the encoding stretches with the image.

    Args:
        embed_dims: Width C of the tokens.
        num_features: Features per axis, an even number.
        temperature: Ratio of the longest to the shortest period.
    """

    frequencies: Tensor

    def __init__(self, embed_dims: int, num_features: int = 32, temperature: float = 1e4) -> None:
        super().__init__()
        exponents = torch.arange(0, num_features, 2) / num_features
        self.register_buffer('frequencies', temperature**-exponents, persistent=False)
        self.proj = nn.Conv2d(2 * num_features, embed_dims, 1)

    def forward(self, size: tuple[int, int], extents: Tensor | None = None) -> Tensor:
        """Compute the encoding of a map.

        Args:
            size: (h, w) of the map.
            extents: (B, 2), the rows and columns that each image of a padded batch covers, to which its encoding is
                scaled. ``None``: the whole map.

        Returns:
            (B, N, C), or (1, N, C) without ``extents``.
        """
        row_extents, column_extents = (None, None) if extents is None else extents.unbind(1)
        # The projection of [row features, column features] is the sum of two projections, one per axis: a 1x1
        # convolution over all h·w positions becomes two products over h and over w positions.
        row_weight, column_weight = self.proj.weight.flatten(1).chunk(2, dim=1)  # (C, 2f, 1, 1) -> 2 x (C, f)
        rows = F.linear(self._features(size[0], row_extents), row_weight, self.proj.bias)  # (B, h, C)
        columns = F.linear(self._features(size[1], column_extents), column_weight)  # (B, w, C)
        return (rows[:, :, None] + columns[:, None]).flatten(1, 2)  # (B, h, w, C) -> (B, N, C)

    def _features(self, length: int, extent: Tensor | None) -> Tensor:
        """Sine and cosine, interleaved, of ``length`` positions: (B,) -> (B, length, f)."""
        position = torch.arange(1, length + 1, device=self.frequencies.device)
        # The last position, and not a tensor made of the length, which would be a constant in a traced graph.
        extent = position[-1:] if extent is None else extent
        position = position * (2 * math.pi / extent[:, None])
        angle = position[..., None] * self.frequencies  # (B, length, f/2)
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(2).to(self.proj.weight.dtype)

    def fold(self) -> 'CachedPosition':
        """Return a version that caches the last encoding."""
        return CachedPosition(self)


class LearnedPosition(nn.Module):
    """A learned vector per token of one grid; for other grids the table is resampled bicubically, as a map.

    Args:
        embed_dims: Width C of the tokens.
        grid: (h, w) that the table is made for.
        num_prefix: Tokens before the grid's, such as a class token; their vectors are never resampled.
        std: Standard deviation of the normal initialisation.
        truncated: Initialise from a normal truncated at ±2.
    """

    def __init__(
        self,
        embed_dims: int,
        grid: tuple[int, int],
        num_prefix: int = 0,
        std: float = 1.0,
        truncated: bool = False,
    ) -> None:
        super().__init__()
        self.grid = (grid[0], grid[1])
        self.num_prefix = num_prefix
        self.table = nn.Parameter(torch.empty(1, num_prefix + grid[0] * grid[1], embed_dims))
        draw = nn.init.trunc_normal_ if truncated else nn.init.normal_
        draw(self.table, std=std)

    def forward(self, size: tuple[int, int], extents: Tensor | None = None) -> Tensor:
        """The vectors of a grid (h, w): (1, num_prefix + h·w, C).

        With ``extents`` (B, 2), the rows and columns that each image of a padded batch covers, the table is resampled
        to these, (B, num_prefix + h·w, C).
        """
        if tuple(size) == self.grid and extents is None:
            return self.table
        prefix, rows = self.table[0].split([self.num_prefix, self.grid[0] * self.grid[1]])
        if extents is not None:
            rows = resample_rows_inside(rows, self.grid, size, extents)  # (B, h·w, C)
            return torch.cat((prefix.expand(len(rows), -1, -1), rows), dim=1)
        return torch.cat((prefix, resample_rows(rows, self.grid, size)))[None]

    def adapt_weight(self, name: str, weight: Tensor) -> Tensor | None:
        """Fit a ``table`` of another square grid, or with a class token, to this one."""
        if name != 'table' or weight.ndim != 3 or len(weight) != 1 or weight.shape[2] != self.table.shape[2]:
            return None
        rows = adapt_rows(weight[0], self.grid, self.num_prefix)
        return None if rows is None else rows[None]


class CachedPosition(nn.Module):
    """A :class:`FourierPosition` for inference, computed anew only when the size or the weights change.

    Args:
        position: The position encoding to cache.
    """

    def __init__(self, position: FourierPosition) -> None:
        super().__init__()
        self.position = position
        self._last: Any = (None, None)  # the key of the last encoding, and the encoding

    def forward(self, size: tuple[int, int], extents: Tensor | None = None) -> Tensor:
        """As :class:`FourierPosition`."""
        weight = self.position.proj.weight
        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if extents is not None or tracing or weight.is_inference():  # inference tensors have no version
            return self.position(size, extents)
        versions = [parameter._version for parameter in self.position.parameters()]
        key = (tuple(size), versions, weight.dtype, weight.device)
        if self._last[0] != key:
            self._last = (key, self.position(size))
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_last': (None, None)}
