"""Class attention (CaiT, arXiv 2103.17239, Section 2.2), and X-ViT's with XNorm in place of softmax."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.folding import fold_after, fold_layer_norm
from xvit_det.functional import merge_heads, split_heads, split_parts
from xvit_det.layers.affine import Affine
from xvit_det.layers.feedforward import FeedForward
from xvit_det.mixers.base import check_heads
from xvit_det.mixers.xnorm import check_kv_axis, fold_gammas, xnorm_attention, xnorm_gammas, xnorm_weights


class ClassAttention(nn.Module):
    """The class token attends, by softmax, to itself and all patch tokens.

    Args:
        embed_dims: Width C of the tokens.
        attn_dims: Width e of q, k and v.
        num_heads: Number of heads H.

    Raises:
        InputError: ``attn_dims`` is not a multiple of ``num_heads``.
    """

    def __init__(self, embed_dims: int, attn_dims: int, num_heads: int) -> None:
        super().__init__()
        check_heads(attn_dims, num_heads)
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dims, attn_dims)
        self.kv = nn.Linear(embed_dims, 2 * attn_dims)
        self.proj = nn.Linear(attn_dims, embed_dims)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, 1 + N, C), the class token first -> (B, 1, C). ``valid``: (B, 1 + N)."""
        return self.proj(merge_heads(self._attend(*self._heads(x), valid)))  # (B, H, 1, c) -> (B, 1, C)

    def attention_map(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """The weight of every token in the class token's sum: (B, 1 + N, C) -> (B, H, 1, 1 + N)."""
        return self._weights(*self._heads(x), valid)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = split_heads(self.q(x[:, :1]), self.num_heads)  # (B, 1, e) -> (B, H, 1, c)
        k, v = split_parts(self.kv(x), self.num_heads, 2)  # 2 x (B, H, 1 + N, c)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        mask = None if valid is None else valid[:, None, None].bool()  # (B, 1 + N) -> (B, 1, 1, 1 + N)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def _weights(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.mT  # (B, H, 1, c) @ (B, H, c, 1 + N)
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None].bool(), float('-inf'))
        return scores.softmax(dim=-1)


class XNormClassAttention(ClassAttention):
    """:class:`ClassAttention` with XNorm in place of softmax.

    Args: as :class:`xvit_det.mixers.XNormAttention`.
    """

    def __init__(self, embed_dims: int, attn_dims: int, num_heads: int, *, kv_axis: int, gamma: float | None) -> None:
        super().__init__(embed_dims, attn_dims, num_heads)
        check_kv_axis(kv_axis)
        self.kv_axis = kv_axis
        self.gamma_q, self.gamma_kv = xnorm_gammas(num_heads, gamma)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        return xnorm_attention(q, k, v, self._gamma, self.kv_axis, valid)

    def _weights(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        return xnorm_weights(q, k, v, self._gamma, self.kv_axis, valid)[0]

    @property
    def _gamma(self) -> Tensor | None:
        return None if self.gamma_q is None or self.gamma_kv is None else self.gamma_q * self.gamma_kv

    def fold(self) -> 'XNormClassAttention':
        """Fold the gammas into the output projection."""
        fold_gammas(self)
        return self


class ClassAttentionBlock(nn.Module):
    """X-ViT's: XNorm class attention and an MLP that update the class token; patch tokens are only read.

    Args:
        embed_dims, attn_dims, num_heads, kv_axis, gamma: As :class:`xvit_det.mixers.XNormAttention`.
        hidden_dims: Hidden width of the MLP.
        layer_scale: Initial value of the affines' alpha.
    """

    def __init__(
        self,
        embed_dims: int,
        attn_dims: int,
        num_heads: int,
        *,
        hidden_dims: int,
        layer_scale: float,
        kv_axis: int = -2,
        gamma: float | None = 1.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = XNormClassAttention(embed_dims, attn_dims, num_heads, kv_axis=kv_axis, gamma=gamma)
        self.affine1 = Affine(embed_dims, layer_scale)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = FeedForward(embed_dims, hidden_dims)
        self.affine2 = Affine(embed_dims, layer_scale)

    def forward(self, cls_token: Tensor, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Update the class token.

        Args:
            cls_token: (B, 1, C).
            x: Patch tokens (B, N, C).
            valid: (B, N) bool, false at padded tokens.

        Returns:
            The new class token (B, 1, C), and the patch tokens as they are.
        """
        tokens = self.norm1(torch.cat((cls_token, x), dim=1))  # (B, 1 + N, C)
        cls_token = cls_token + self.affine1(self.attn(tokens, with_class_token(valid)))
        return cls_token + self.affine2(self.mlp(self.norm2(cls_token))), x

    def fold(self) -> 'ClassAttentionBlock':
        """Fold LayerNorm weights and affines into the linear layers."""
        mlp: Any = self.mlp  # mypy takes the parts of an nn.Sequential for plain modules
        self.norm1 = fold_layer_norm(self.norm1, self.attn.q, self.attn.kv)
        self.norm2 = fold_layer_norm(self.norm2, mlp[0])
        fold_after(self.attn.proj, self.affine1.alpha, self.affine1.beta)
        fold_after(mlp[2], self.affine2.alpha, self.affine2.beta)
        for name in ('affine1', 'affine2'):
            setattr(self, name, nn.Identity())
        return self


def with_class_token(valid: Tensor | None) -> Tensor | None:
    """Which tokens count (B, N) -> (B, 1 + N), with the class token in front, which always does."""
    return None if valid is None else torch.cat((valid.new_ones(len(valid), 1), valid), dim=1)
