"""Max-pooling whose graph holds for odd and even sides alike, for export."""

import torch
import torch.nn.functional as F
from torch import Tensor

from xvit_det.kernels import is_exporting


def max_pool(x: Tensor, kernel: int, stride: int, padding: int = 0, ceil_mode: bool = False) -> Tensor:
    """``F.max_pool2d``; while exporting, as the largest of shifted copies.

    torch's exporter decides for odd or for even sides when it meets a pooling.

    Args:
        x: (B, C, h, w).
        kernel, stride, padding: As for ``F.max_pool2d``.
        ceil_mode: Round up, which needs ``kernel`` equal to ``stride`` and no padding.
    """
    if not is_exporting():
        return F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)
    after = kernel - 1 if ceil_mode else padding
    x = F.pad(x, (padding, after, padding, after), value=torch.finfo(x.dtype).min)
    for dim in (2, 3):
        count = (x.shape[dim] - kernel) // stride + 1
        parts = [x[(slice(None),) * dim + (slice(i, i + stride * (count - 1) + 1, stride),)] for i in range(kernel)]
        x = torch.stack(parts).amax(0)
    return x
