"""Convolution at chosen positions: their patches as columns, and results back to their places. Inference only."""

from torch import Tensor
from torch.nn import functional as F


def masked_im2col_forward(
    im: Tensor, rows: Tensor, columns: Tensor, data_col: Tensor, *, kernel_h: int, kernel_w: int, pad_h: int, pad_w: int
) -> None:
    """Fill ``data_col`` (C·kernel_h·kernel_w, M) with the patches of a map (1, C, H, W) at M positions."""
    windows = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h)).unfold(1, kernel_h, 1).unfold(2, kernel_w, 1)
    patches = windows[:, rows, columns]  # (C, H, W, kernel_h, kernel_w) -> (C, M, kernel_h, kernel_w)
    data_col.copy_(patches.permute(0, 2, 3, 1).flatten(0, 2))  # -> (C·kernel_h·kernel_w, M)


def masked_col2im_forward(
    col: Tensor, rows: Tensor, columns: Tensor, im: Tensor, *, height: int, width: int, channels: int
) -> None:
    """Write ``col`` (C, M) to M positions of a map (1, C, H, W)."""
    im[0, :, rows, columns] = col
