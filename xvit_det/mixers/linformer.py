"""Linformer: keys and values projected along the sequence to a fixed number, at a cost linear in the number of tokens.

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
    """``softmax(q (Eᵀ k)ᵀ / √d) (Eᵀ v)``, E (N, K) learned and shared by keys and values, which are the same.

    E belongs to one number of tokens. On another grid its rows are resampled as a map, one for each of the K columns,
    and scaled so that the sums over tokens keep their size.

    Args:
        embed_dims: Width C of the tokens.
        num_heads: Number of heads H.
        head_dims: Channels d of each head; ``None``: C / H.
        grid: (h, w) of the tokens that E is made for.
        num_prefix: Tokens before those of the grid, such as a class token.
        projected: Number K of projected tokens.
        one_kv_head: All heads share one key/value head.
        share_kv: Keys are the values too; otherwise values have a projection of their own.
        rotary: Turns queries and keys by their position, keys before E; values are not turned.

    Raises:
        InputError: The width does not split into the heads, or ``projected`` is not positive.
    """

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
        self.grid = tuple(grid)
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
        q = split_heads(self.q(x), self.num_heads)
        k = split_heads(self.k(x), self.kv_heads)
        v = k if self.v is None else split_heads(self.v(x), self.kv_heads)
        shared = v is k and self.rotary is None
        if self.rotary is not None:
            q, k = self.rotary.turn_both(q, k, size)
        if valid is not None:
            projection = projection * valid[..., None].to(projection.dtype)  # (B, N, K)
            projection = projection[:, None]
        k_short = projection.transpose(-2, -1) @ k  # (K, N) @ (B, h, N, d) -> (B, h, K, d)
        v_short = k_short if shared else projection.transpose(-2, -1) @ v
        k_short, v_short = (u.expand(-1, self.num_heads, -1, -1) for u in (k_short, v_short))
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k_short, v_short)))

    def _projection_for(self, num_tokens: int, size: tuple[int, int] | None) -> Tensor:
        size = self.grid if size is None else size
        if num_tokens != self.num_prefix + size[0] * size[1]:
            raise InputError(
                f'linformer is given {num_tokens} tokens, not {self.num_prefix} + {size[0]} x {size[1]}; give the size '
                f'(h, w) of another grid to resample its projection to it'
            )
        if size == self.grid:
            return self.projection
        scale = self.grid[0] * self.grid[1] / (size[0] * size[1])
        prefix, rows = self.projection.split([self.num_prefix, self.grid[0] * self.grid[1]])
        return torch.cat((prefix, scale * resample_rows(rows, self.grid, size)))

    def adapt_weight(self, name: str, weight: Tensor) -> Tensor | None:
        """Fit a ``projection`` trained on another square grid, or with another number of class tokens, to this one."""
        if name != 'projection' or weight.ndim != 2 or weight.shape[1] != self.projection.shape[1]:
            return None
        return adapt_rows(weight, self.grid, self.num_prefix, keep_sum=True)
