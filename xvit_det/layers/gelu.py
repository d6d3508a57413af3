"""GELU without an extra buffer in inference."""

from torch import Tensor, nn

from xvit_det.functional import gelu_


class InplaceGELU(nn.Module):
    """GELU in place unless a gradient is recorded, see :func:`xvit_det.functional.gelu_`."""

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return gelu_(x)
