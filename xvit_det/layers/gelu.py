"""GELU that takes no memory where it need not."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gelu(x: Tensor) -> Tensor:
    """GELU, written over its input where no gradient is recorded: pass a tensor that nothing else needs.

    A new tensor of a large map's size costs more time than the function itself.
    """
    return F.gelu(x) if torch.is_grad_enabled() and x.requires_grad else torch.ops.aten.gelu_(x)


class GELU(nn.Module):
    """:func:`gelu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return gelu(x)
