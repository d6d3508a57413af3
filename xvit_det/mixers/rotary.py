"""Rotary position embedding: queries and keys are rotated by angles proportional to their position.

"RoFormer: Enhanced Transformer with Rotary Position Embedding" (arXiv 2104.09864), Equations 14 to 16 and 34.
"""

import torch
from torch import Tensor, nn

from xvit_det.errors import InputError

BASE = 10000.0


class RotaryPosition(nn.Module):
    """Rotates each pair of channels (2i, 2i + 1) of a token at position p by the angle ``p · 10000^(-2i/d)``.

    The dot product of a rotated query and a rotated key then depends on their positions only through the difference.

    Args:
        head_dims: Channels d of a head.
        axial: Half of the channels encode the row, half the column, and prefix tokens such as a class token are not
            rotated. Otherwise all channels encode the position in the sequence, prefix tokens included, as in the
            "Vision Xformers" code.

    Raises:
        InputError: ``head_dims`` is not divisible by 2, or by 4 if axial.
    """

    frequencies: Tensor

    def __init__(self, head_dims: int, axial: bool = False) -> None:
        super().__init__()
        part = 4 if axial else 2
        if head_dims % part:
            raise InputError(
                f'{"axial " if axial else ""}rotary position needs head_dims divisible by {part}, not {head_dims}'
            )
        self.axial = axial
        dims = head_dims // 2 if axial else head_dims
        self.register_buffer('frequencies', BASE ** (-torch.arange(0, dims, 2) / dims), persistent=False)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Rotate queries or keys.

        Args:
            x: (B, H, N, d).
            size: (h, w) of the grid that the last h·w tokens form; needed for ``axial`` only.

        Returns:
            (B, H, N, d).
        """
        return _rotate(x, *self._cos_sin(x, size))

    def rotate_both(self, q: Tensor, k: Tensor, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Queries (B, H, N, d) and keys (B, H', N, d) of the same tokens, rotated as by :meth:`forward`."""
        cos, sin = self._cos_sin(q, size)
        return _rotate(q, cos, sin), _rotate(k, cos, sin)

    def _cos_sin(self, x: Tensor, size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """2 x (N, d/2), for tokens (B, H, N, d)."""
        angles = self._angles(x.shape[-2], size)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)

    def _angles(self, num_tokens: int, size: tuple[int, int] | None) -> Tensor:
        """(N, d/2)."""
        device = self.frequencies.device
        if not self.axial:
            return torch.arange(num_tokens, device=device)[:, None] * self.frequencies
        if size is None:
            raise InputError('axial rotary position needs the size (h, w) of the grid of tokens')
        h, w = size
        rows = torch.arange(h, device=device)[:, None] * self.frequencies  # (h, d/4)
        columns = torch.arange(w, device=device)[:, None] * self.frequencies  # (w, d/4)
        rows, columns = rows[:, None].expand(h, w, -1), columns.expand(h, w, -1)
        grid = torch.cat((rows, columns), dim=-1).flatten(0, 1)  # (h, w, d/2) -> (h·w, d/2)
        return torch.cat((grid.new_zeros(num_tokens - h * w, grid.shape[1]), grid))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)  # (B, H, N, d) -> 2 x (B, H, N, d/2)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
