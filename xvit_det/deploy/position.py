"""The position code of the size that came last."""

from typing import Any

import torch
from torch import Tensor, nn

from xvit_det.layers import FourierPosition


class CachedPosition(nn.Module):
    """A position code that is computed again only when the size changes, or the weights.

    Args:
        position: Computes it.
    """

    def __init__(self, position: FourierPosition) -> None:
        super().__init__()
        self.position = position
        self._last: tuple[Any, Tensor | None] = (None, None)  # what a code is for, and the code

    def forward(self, size: tuple[int, int], extents: Tensor | None = None) -> Tensor:
        """As :class:`xvit_det.layers.FourierPosition`."""
        weight, bias = self.position.proj.weight, self.position.proj.bias
        recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if extents is not None or recorded or weight.is_inference():  # inference tensors do not count their changes
            return self.position(size, extents)
        key = (tuple(size), weight._version, bias._version, weight.dtype, weight.device)
        if self._last[0] != key:
            self._last = (key, self.position(size))
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_last': (None, None)}
