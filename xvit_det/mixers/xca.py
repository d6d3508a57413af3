"""Cross-covariance attention: channels attend to channels, at a cost linear in the number of tokens.

"XCiT: Cross-Covariance Image Transformers" (arXiv 2106.09681), Section 3.2.
"""

import torch
from torch import Tensor, nn

from xvit_det.functional import merge_heads, split_parts, unit_vectors
from xvit_det.mixers.base import MatrixMixer, check_heads


def channel_attention(q: Tensor, k: Tensor, temperature: Tensor, valid: Tensor | None = None) -> Tensor:
    """``softmax(q̂ᵀ k̂ · τ)``: how much each channel takes from each other, by their cosine over the tokens.

    Args:
        q: Queries (B, H, N, c).
        k: Keys (B, H, N, c).
        temperature: Factor τ of the cosines (H, 1, 1).
        valid: (B, N), false at masked tokens. ``None``: all are valid.

    Returns:
        (B, H, c, c), where each row sums to 1.
    """
    if valid is not None:
        mask = valid.to(q.dtype)[:, None, :, None]
        q, k = q * mask, k * mask
    # Unit vectors before the product: their cosines fit into float16, whatever the number of tokens.
    q, k = unit_vectors(q, dim=-2), unit_vectors(k, dim=-2)
    return (q.mT @ k * temperature).softmax(dim=-1)  # (B, H, c, N) @ (B, H, N, c)


class CrossCovarianceAttention(MatrixMixer):
    """Multi-head cross-covariance attention (XCA): ``v softmax(q̂ᵀ k̂ · τ)ᵀ``.

    Args:
        embed_dims: Width C of the tokens.
        attn_dims: Width e of q, k and v together; the output projection maps e back to C. ``None``: C, as in XCiT.
        num_heads: Number of heads H; each has e / H channels and a learned temperature τ.

    Raises:
        InputError: ``attn_dims`` is not a multiple of ``num_heads``.
    """

    def __init__(self, embed_dims: int, attn_dims: int | None = None, num_heads: int = 8) -> None:
        super().__init__(embed_dims)
        attn_dims = attn_dims or embed_dims
        check_heads(attn_dims, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * attn_dims)
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.proj = nn.Linear(attn_dims, embed_dims)

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)  # (B, N, 3e) -> 3 x (B, H, N, c)
        attn = channel_attention(q, k, self.temperature, valid)
        return self.proj(merge_heads(v @ attn.mT.to(v.dtype)))  # (B, H, N, c) -> (B, N, e) -> (B, N, C)

    def product(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values, and the attention of the channels times the projection."""
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)
        attn = channel_attention(q, k, self.temperature, valid).to(v.dtype)
        return merge_heads(v), self._project(attn.mT)
