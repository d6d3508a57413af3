"""GELU that takes no memory where it need not."""

from torch import Tensor, nn

from xvit_det.functional import gelu_


class InplaceGELU(nn.Module):
    """GELU written over its input unless a gradient is recorded, see :func:`xvit_det.functional.gelu_`."""

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return gelu_(x)
