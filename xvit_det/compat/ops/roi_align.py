"""Average pooling of regions.

It is linear in the maps: each bin of a region is a weighted sum of cells. torchvision's CPU code loops over channels in
one thread, which takes an eighth of Mask R-CNN's time in a test and a fifth in training. Here the weights form a sparse
matrix, which PyTorch's ``embedding_bag`` multiplies with all channels at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from xvit_det.compat.ops import missing, wide

FEW = 16  # channels, below which torchvision's way is faster: mmdet also pools masks, maps of one channel
AT_ONCE = 1 << 21  # weights that are in memory at once, zeros among them


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average pooling of regions (K, 5) of maps (B, C, H, W) into ``output`` (K, C, height, width)."""
    if pool_mode == 0:
        raise missing('roi_align with pool_mode="max"')
    size = (aligned_height, aligned_width)
    input = wide(input)
    rois = rois.to(input.dtype)
    if not _gains(input):
        output.copy_(torchvision.ops.roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned))
    elif output.numel():
        cells = _cells(input)
        for part in _parts(rois, size, spatial_scale):
            weights = pooling_weights(rois[part], input.shape, size, spatial_scale, sampling_ratio, aligned)
            bins = weights.times(cells).unflatten(0, (-1, *size))
            output[part] = bins.permute(0, 3, 1, 2).to(output.dtype)  # (K, h, w, C) -> (K, C, h, w)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient (B, C, H, W) of :func:`roi_align_forward` for that of its output (K, C, height, width)."""
    size, shape = (aligned_height, aligned_width), grad_input.shape
    grad_output = wide(grad_output)
    rois = rois.to(grad_output.dtype)
    if not _gains(grad_output):
        backward = torch.ops.torchvision._roi_align_backward
        grad_input.copy_(backward(grad_output, rois, spatial_scale, *size, *shape, sampling_ratio, aligned))
    elif grad_output.numel():
        number = shape[0] * shape[2] * shape[3]
        cells: Tensor | None = None
        for part in _parts(rois, size, spatial_scale):
            weights = pooling_weights(rois[part], shape, size, spatial_scale, sampling_ratio, aligned)
            gradients = weights.transposed(number).times(_cells(grad_output[part]))
            cells = gradients if cells is None else cells.add_(gradients)
        assert cells is not None
        grad_input.copy_(cells.view(shape[0], *shape[2:], -1).permute(0, 3, 1, 2))  # (B·H·W, C) -> (B, C, H, W)


class SparseMatrix(NamedTuple):
    """A matrix of M rows in compressed form: row i has ``values`` and their ``columns`` from ``starts[i]`` on."""

    columns: Tensor
    values: Tensor
    starts: Tensor  # (M + 1,)

    def times(self, table: Tensor) -> Tensor:
        """Product with a dense matrix: (N, C) -> (M, C)."""
        return F.embedding_bag(
            self.columns, table, self.starts, mode='sum', per_sample_weights=self.values, include_last_offset=True
        )

    def transposed(self, rows: int) -> 'SparseMatrix':
        """The transposed matrix, of so many rows."""
        order = self.columns.argsort(stable=True)
        entries = torch.arange(len(self.starts) - 1).repeat_interleave(self.starts.diff())
        starts = _starts(self.columns.bincount(minlength=rows))
        return SparseMatrix(entries[order], self.values[order], starts)


def pooling_weights(
    rois: Tensor, shape: torch.Size, size: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> SparseMatrix:
    """The weight of every cell in every bin, (K·h·w, B·H·W).

    Args:
        rois: Index of the image and corners of each region in pixels, (K, 5). Corners that are not finite count as 0.
        shape: Of the maps, (B, C, H, W).
        size: Bins of a region, h and w.
        scale: Cells per pixel.
        ratio: Samples of a bin along each axis; 0 for one per cell.
        aligned: Whether a cell's value stands for its middle, not for its upper left corner.
    """
    height, width = shape[2:]
    corners = (rois[:, 1:] * scale).nan_to_num(0, 0, 0) - (0.5 if aligned else 0)
    lengths = corners[:, 2:] - corners[:, :2]
    if not aligned:
        lengths = lengths.clamp(min=1)
    y, weights_y = _interpolation(corners[:, 1], lengths[:, 1], size[0], ratio, height)
    x, weights_x = _interpolation(corners[:, 0], lengths[:, 0], size[1], ratio, width)
    y = y + rois[:, 0].long()[:, None, None] * height  # the maps of a batch, one below the other
    # (K, h, 1, n, 1) and (K, 1, w, 1, n) -> (K·h·w, n·n)
    weights = (weights_y[:, :, None, :, None] * weights_x[:, None, :, None]).flatten(0, 2).flatten(1)
    cells = (y[:, :, None, :, None] * width + x[:, None, :, None]).flatten(0, 2).flatten(1)
    used = weights != 0
    return SparseMatrix(cells[used], weights[used], _starts(used.sum(1)))


def _parts(rois: Tensor, size: tuple[int, int], scale: float) -> Iterator[Tensor | slice]:
    """Indices of regions that are computed at once: all, or the largest first.

    The largest region of a part decides how many weights each of the part gets.
    """
    sides = (rois[:, 3:] - rois[:, 1:3]).nan_to_num(0, 0, 0).abs() * scale
    needed = (sides + 2 * sides.new_tensor(size[::-1])).prod(1)  # cells under all bins; neighbours share two
    if needed.max() * len(rois) <= AT_ONCE:
        yield slice(None)
        return
    order, start = needed.argsort(descending=True), 0
    while start < len(order):
        end = start + max(1, int(AT_ONCE / needed[order[start]]))
        yield order[start:end]
        start = end


def _interpolation(starts: Tensor, lengths: Tensor, bins: int, ratio: int, size: int) -> tuple[Tensor, Tensor]:
    """Cells under each bin along one axis and their weights, two tensors (K, bins, n); cells of no weight pad them.

    Samples at equal distances share a bin's weight, and each is interpolated between two cells. Samples more than one
    cell outside the map get no weight.
    """
    step = lengths / bins
    number = (torch.full_like(step, ratio) if ratio > 0 else step.ceil().clamp(min=0))[:, None, None]
    sample = torch.arange(max(1, int(number.max())), dtype=step.dtype)
    begin = starts[:, None] + torch.arange(bins, dtype=step.dtype) * step[:, None]  # (K, bins)
    position = begin[..., None] + (sample + 0.5) * step[:, None, None] / number.clamp(min=1)  # (K, bins, samples)
    counted = (sample < number) & (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)
    cell = position.long()
    first = cell.amin(2, keepdim=True)
    share = counted / number.clamp(min=1)
    above = (position - cell) * share
    weights = position.new_zeros(*cell.shape[:2], int((cell - first).max()) + 2)
    weights.scatter_add_(2, cell - first, share - above).scatter_add_(2, cell - first + 1, above)
    return (first + torch.arange(weights.shape[2])).clamp(max=size - 1), weights


def _starts(counts: Tensor) -> Tensor:
    """Where each row starts, and where the last one ends: (M,) -> (M + 1,)."""
    return F.pad(counts.cumsum(0), (1, 0))


def _cells(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B·H·W, C)"""
    return maps.permute(0, 2, 3, 1).flatten(0, 2).contiguous()


def _gains(maps: Tensor) -> bool:
    # A graph cannot depend on how many cells the regions cover.
    return maps.device.type == 'cpu' and maps.shape[1] >= FEW and not torch.compiler.is_compiling()
