"""XCiT's class attention block (arXiv 2106.09681, Section 3.4), as its released code computes it."""

import torch
from torch import Tensor, nn

from xvit_det.layers.affine import Affine
from xvit_det.layers.class_attention import ClassAttention, with_class_token
from xvit_det.layers.feedforward import FeedForward


class XCiTClassBlock(nn.Module):
    """Softmax class attention and an MLP on the class token, in which the patch tokens change along.

    Where the attention's output is added to the class token, the patch tokens get their own norm added. The second norm
    stands on the residual stream, and the last residual connection doubles the patch tokens.

    Args:
        embed_dims: Width C of the tokens.
        num_heads: Number of heads.
        hidden_dims: Hidden width of the MLP.
        layer_scale: Initial value of the affines' alpha.
        tokens_norm: Apply the second norm to all tokens, not to the class token only.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, *, hidden_dims: int, layer_scale: float, tokens_norm: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = ClassAttention(embed_dims, embed_dims, num_heads)
        self.affine1 = Affine(embed_dims, layer_scale)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = FeedForward(embed_dims, hidden_dims)
        self.affine2 = Affine(embed_dims, layer_scale)
        self.tokens_norm = tokens_norm

    def forward(self, cls_token: Tensor, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Update class token (B, 1, C) and patch tokens (B, N, C). ``valid``: (B, N) bool, false at padded tokens."""
        tokens = self.norm1(torch.cat((cls_token, x), dim=1))  # (B, 1 + N, C)
        cls_token = self.norm2(cls_token + self.affine1(self.attn(tokens, with_class_token(valid))))
        x = x + self.affine1.forward(tokens[:, 1:])  # no call: hooks on the affine see the attention's output only
        x = self.norm2(x) if self.tokens_norm else x
        return cls_token + self.affine2(self.mlp(cls_token)), 2 * x
