"""Softmax attention between all tokens, at quadratic cost.

"Attention Is All You Need" (arXiv 1706.03762), Equation 1 and Section 3.2.2.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.functional import merge_heads, split_parts
from xvit_det.mixers.base import TokenMixer, resolve_head_dims
from xvit_det.mixers.rotary import RotaryPosition


class SoftmaxAttention(TokenMixer):
    """Multi-head ``softmax(q kᵀ / √d) v``.

    Args:
        embed_dims: Width C of the tokens.
        num_heads: Number of heads H.
        head_dims: Channels d of each head; ``None``: C / H.
        attn_drop: Dropout rate of the attention map.
        fused: Use PyTorch's ``scaled_dot_product_attention``, which does not store the (N, N) maps. ``False`` stores
            them, as in the memory figures of papers before 2022.
        qkv_bias: Give q, k and v a bias, as DeiT does.
        rotary: Rotates queries and keys by their position.

    Raises:
        InputError: The width is not divisible by the number of heads.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        head_dims: int | None = None,
        *,
        attn_drop: float = 0.0,
        fused: bool = True,
        qkv_bias: bool = False,
        rotary: RotaryPosition | None = None,
    ) -> None:
        super().__init__(embed_dims)
        head_dims = resolve_head_dims(embed_dims, num_heads, head_dims)
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.fused = fused
        self.rotary = rotary
        self.qkv = nn.Linear(embed_dims, 3 * num_heads * head_dims, bias=qkv_bias)
        self.proj = nn.Linear(num_heads * head_dims, embed_dims)

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        q, k, v = self._heads(x, size)
        if self.fused:
            mask = None if valid is None else valid[:, None, None].bool()  # (B, N) -> (B, 1, 1, N)
            dropout = self.attn_drop if self.training else 0.0
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        else:
            out = F.dropout(self._map(q, k, valid), self.attn_drop, self.training) @ v
        return self.proj(merge_heads(out))

    def attention_map(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        size: tuple[int, int] | None = None,
        queries: slice = slice(None),
    ) -> Tensor:
        """The attention weights: (B, N, C) -> (B, H, N, N), where rows sum to 1, or only the rows ``queries``."""
        q, k, _ = self._heads(x, size)
        return self._map(q[:, :, queries], k, valid)

    def _heads(self, x: Tensor, size: tuple[int, int] | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)  # (B, N, 3·H·d) -> 3 x (B, H, N, d)
        if self.rotary is not None:
            q, k = self.rotary.rotate_both(q, k, size)
        return q, k, v

    @staticmethod
    def _map(q: Tensor, k: Tensor, valid: Tensor | None) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, H, N, d) @ (B, H, d, N) -> (B, H, N, N)
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None].bool(), float('-inf'))
        return scores.softmax(dim=-1)
