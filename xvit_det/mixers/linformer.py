"""Linformer: keys and values projected along the sequence to a fixed length, at linear cost.

"Linformer: Self-Attention with Linear Complexity" (arXiv 2006.04768), Equation 7.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.errors import InputError
from xvit_det.functional import adapt_rows, merge_heads, resample_rows, split_heads
from xvit_det.mixers.base import TokenMixer, resolve_head_dims
from xvit_det.mixers.rotary import RotaryPosition


class LinformerAttention(TokenMixer):
    """``softmax(q (Eᵀ k)ᵀ / √d) (Eᵀ v)``, with a learned E (N, K) shared by keys and values.

    E is made for one grid. For others, each of its K columns is resampled as a map, and scaled so that sums over tokens
    keep their magnitude.

    Args:
        embed_dims: Width C of the tokens.
        num_heads: Number of heads H.
        head_dims: Channels d of each head; ``None``: C / H.
        grid: (h, w) that E is made for.
        num_prefix: Tokens before the grid's, such as a class token.
        projected: Number K of projected tokens.
        one_kv_head: All heads share one key/value head.
        share_kv: Use the keys as values; otherwise values have their own projection.
        rotary: Rotates queries and keys (before E) by their position; values are not rotated.

    Raises:
        InputError: The width is not divisible by the number of heads, or ``projected`` is not positive.
    """

    feels_padding = 'its projection is resampled to the size of the whole map'

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        head_dims: int | None = None,
        *,
        grid: tuple[int, int],
        num_prefix: int = 0,
        projected: int = 64,
        one_kv_head: bool = True,
        share_kv: bool = True,
        rotary: RotaryPosition | None = None,
    ) -> None:
        super().__init__(embed_dims)
        head_dims = resolve_head_dims(embed_dims, num_heads, head_dims)
        if projected < 1:
            raise InputError(f'linformer projected={projected} is not at least 1')
        self.num_heads = num_heads
        self.kv_heads = 1 if one_kv_head else num_heads
        self.grid = (grid[0], grid[1])
        self.num_prefix = num_prefix
        self.rotary = rotary
        self.q = nn.Linear(embed_dims, num_heads * head_dims, bias=False)
        self.k = nn.Linear(embed_dims, self.kv_heads * head_dims, bias=False)
        self.v = None if share_kv else nn.Linear(embed_dims, self.kv_heads * head_dims, bias=False)
        self.proj = nn.Linear(num_heads * head_dims, embed_dims)
        bound = projected**-0.5
        tokens = num_prefix + grid[0] * grid[1]
        self.projection = nn.Parameter(torch.empty(tokens, projected).uniform_(-bound, bound))

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        projection = self._projection_for(x.shape[1], size).to(x.dtype)  # (N, K)
        q = split_heads(self.q(x), self.num_heads)  # (B, N, H·d) -> (B, H, N, d)
        k = split_heads(self.k(x), self.kv_heads)  # (B, N, h·d) -> (B, h, N, d), h = 1 or H
        v = k if self.v is None else split_heads(self.v(x), self.kv_heads)
        shared = v is k and self.rotary is None
        if self.rotary is not None:
            q, k = self.rotary.rotate_both(q, k, size)
        if valid is not None:
            projection = projection * valid[..., None].to(projection.dtype)  # (B, N, K)
            projection = projection[:, None]
        k_short = projection.transpose(-2, -1) @ k  # (K, N) @ (B, h, N, d) -> (B, h, K, d)
        v_short = k_short if shared else projection.transpose(-2, -1) @ v
        k_short, v_short = (u.expand(-1, self.num_heads, -1, -1) for u in (k_short, v_short))
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k_short, v_short)))

    def _projection_for(self, num_tokens: int, size: tuple[int, int] | None) -> Tensor:
        h, w = self.grid if size is None else size
        if num_tokens != self.num_prefix + h * w:
            raise InputError(
                f'linformer got {num_tokens} tokens, not {self.num_prefix} + {h} x {w}; pass the size (h, w) of '
                f'another grid to resample its projection'
            )
        if (h, w) == self.grid:
            return self.projection
        scale = self.grid[0] * self.grid[1] / (h * w)
        prefix, rows = self.projection.split([self.num_prefix, self.grid[0] * self.grid[1]])
        return torch.cat((prefix, scale * resample_rows(rows, self.grid, (h, w))))

    def adapt_weight(self, name: str, weight: Tensor) -> Tensor | None:
        """Fit a ``projection`` of another square grid, or with a class token, to this one."""
        if name != 'projection' or weight.ndim != 2 or weight.shape[1] != self.projection.shape[1]:
            return None
        return adapt_rows(weight, self.grid, self.num_prefix, keep_sum=True)
