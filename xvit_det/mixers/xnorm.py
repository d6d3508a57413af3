"""XNorm attention: softmax replaced by L2 normalisation, at linear cost.

"X-ViT: High Performance Linear Vision Transformer without Softmax" (arXiv 2109.14382), Equations 3 to 5.
"""

from typing import Any

import torch
from torch import Tensor, nn

from xvit_det import kernels
from xvit_det.errors import InputError
from xvit_det.folding import fold_before
from xvit_det.functional import merge_heads, split_parts, unit_vectors
from xvit_det.mixers.base import MatrixMixer, check_heads


def xnorm_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gamma: Tensor | None = None,
    kv_axis: int = -2,
    valid: Tensor | None = None,
) -> Tensor:
    """``XN(q) · XN(kᵀ v)``: each query is multiplied with one small matrix per head.

    Args:
        q: Queries (B, H, M, c).
        k: Keys (B, H, N, c).
        v: Values (B, H, N, c).
        gamma: Product of both norms' scales, broadcastable to (B, H, c, c). ``None``: 1.
        kv_axis: Axis along which ``kᵀ v`` is normalised: -2, the keys' axis as in Equation 4, which makes each output a
            cosine times ``gamma``; or -1, the values' axis, which does not bound the output.
        valid: (B, N), false at masked keys. ``None``: all are valid.

    Returns:
        (B, H, M, c).
    """
    if can_use_kernel(q, k, v, gamma):
        from xvit_det.kernels.xnorm import xnorm_attention as kernel

        return kernel(q, k, v, gamma, kv_axis, valid)
    kv = unit_kv(k, v, kv_axis, valid)
    if gamma is not None:
        kv = kv * gamma.to(kv.dtype)
    return unit_vectors(q, dim=-1) @ kv


def xnorm_weights(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gamma: Tensor | None = None,
    kv_axis: int = -2,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`xnorm_attention` as a weighted sum over tokens, at quadratic cost, to look at: ``weights @ values`` is the
    same. The weight of ``v_j`` for query i is ``γ q̂_i · k_j``, where the norm of ``kᵀ v`` divides the channels of v, or
    with ``kv_axis=-1`` those of k.

    Args: as :func:`xnorm_attention`; ``gamma`` is one number for each head, (1, H, 1, 1).

    Returns:
        Weights (B, H, M, N) of either sign, and values (B, H, N, c).
    """
    if valid is not None:
        k = k * valid.to(k.dtype)[:, None, :, None]
    norm = torch.linalg.vector_norm(k.mT @ v, dim=kv_axis)[..., None, :]  # (B, H, c, c) -> (B, H, 1, c)
    norm = torch.where(norm > 1e-12, norm, 1)
    k, v = (k, v / norm) if kv_axis == -2 else (k / norm, v)
    weights = unit_vectors(q, dim=-1) @ k.mT  # (B, H, M, c) @ (B, H, c, N)
    return (weights if gamma is None else weights * gamma), v


def can_use_kernel(q: Tensor, k: Tensor, v: Tensor, gamma: Tensor | None = None) -> bool:
    """Whether the Triton kernel can be used, see :mod:`xvit_det.kernels`: it neither broadcasts nor promotes dtypes,
    and a head must fit into one tile."""
    if not (kernels.usable(q, k, v, gamma) and q.dtype == k.dtype == v.dtype):
        return False
    return q.shape[:2] == k.shape[:2] and q.shape[-1] == k.shape[-1] <= 64 and k.shape == v.shape


def unit_kv(k: Tensor, v: Tensor, kv_axis: int, valid: Tensor | None) -> Tensor:
    """``kᵀ v``, normalised, see :func:`xnorm_attention`: 2 x (B, H, N, c) -> (B, H, c, c)."""
    if valid is not None:
        k = k * valid.to(k.dtype)[:, None, :, None]
    if k.dtype == torch.float16 or kernels.is_exporting():
        # A factor that the normalisation cancels: the sum over N tokens grows at least as sqrt(N) and would overflow
        # float16 on large images. An exported model may be converted to float16 later.
        k = k * k.shape[-2] ** -0.5
    return unit_vectors(k.transpose(-2, -1) @ v, dim=kv_axis)  # (B, H, c, N) @ (B, H, N, c)


def xnorm_gammas(num_heads: int, gamma: float | None) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    """Learnable scales per head for the queries and for ``kᵀ v``, or ``None`` twice."""
    if gamma is None:
        return None, None
    gamma_q, gamma_kv = (nn.Parameter(torch.full((1, num_heads, 1, 1), float(gamma))) for _ in range(2))
    return gamma_q, gamma_kv


def fold_gammas(attn: Any) -> None:
    """Fold the gammas of an attention module into its output projection."""
    if attn.gamma_q is None:
        return
    gamma = attn.gamma_q.double() * attn.gamma_kv.double()  # (1, H, 1, 1), of every channel of a head
    fold_before(attn.proj, gamma.flatten().repeat_interleave(attn.proj.in_features // attn.num_heads))
    attn.gamma_q = attn.gamma_kv = None


def check_kv_axis(kv_axis: int) -> None:
    """Raise an ``InputError`` unless the axis is one of the two."""
    if kv_axis not in (-2, -1):
        raise InputError(f'kv_axis={kv_axis} is not -2 (keys, as in the paper) or -1 (values)')


class XNormAttention(MatrixMixer):
    """Multi-head XNorm self-attention with a narrow inner width.

    Args:
        embed_dims: Width C of the tokens.
        attn_dims: Width e of q, k and v together; the output projection maps e back to C. ``None``: C.
        num_heads: Number of heads H; each has e / H channels.
        kv_axis: See :func:`xnorm_attention`.
        gamma: Initial value of the two learnable scales of each head; ``None``: no scales.

    Raises:
        InputError: ``attn_dims`` is not a multiple of ``num_heads``, or ``kv_axis`` is neither -2 nor -1.
    """

    def __init__(
        self,
        embed_dims: int,
        attn_dims: int | None = None,
        num_heads: int = 8,
        *,
        kv_axis: int = -2,
        gamma: float | None = 1.0,
    ) -> None:
        super().__init__(embed_dims)
        attn_dims = attn_dims or embed_dims
        check_heads(attn_dims, num_heads)
        check_kv_axis(kv_axis)
        self.num_heads = num_heads
        self.kv_axis = kv_axis
        self.qkv = nn.Linear(embed_dims, 3 * attn_dims)
        self.gamma_q, self.gamma_kv = xnorm_gammas(num_heads, gamma)
        self.proj = nn.Linear(attn_dims, embed_dims)

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)  # (B, N, 3e) -> 3 x (B, H, N, c)
        out = xnorm_attention(q, k, v, self._gamma, self.kv_axis, valid)
        return self.proj(merge_heads(out))  # (B, H, N, c) -> (B, N, e) -> (B, N, C)

    def attention_map(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        size: tuple[int, int] | None = None,
        queries: slice = slice(None),
    ) -> Tensor:
        """The weights of :func:`xnorm_weights`: (B, N, C) -> (B, H, N, N), or only the rows of some ``queries``."""
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)  # (B, N, 3e) -> 3 x (B, H, N, c)
        return xnorm_weights(q[:, :, queries], k, v, self._gamma, self.kv_axis, valid)[0]

    @property
    def _gamma(self) -> Tensor | None:
        return None if self.gamma_q is None or self.gamma_kv is None else self.gamma_q * self.gamma_kv

    def product(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Unit queries, and ``XN(kᵀ v)`` times the projection; with the Triton kernel, which computes all of the
        attention, its output and the projection's weight. The gammas must be folded."""
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)  # (B, N, 3e) -> 3 x (B, H, N, c)
        if can_use_kernel(q, k, v):
            return merge_heads(xnorm_attention(q, k, v, None, self.kv_axis, valid)), self.proj.weight
        queries = unit_vectors(q.transpose(1, 2), dim=-1).flatten(2)  # (B, N, H, c) -> (B, N, e)
        return queries, self._project(unit_kv(k, v, self.kv_axis, valid))

    def fold(self) -> 'XNormAttention':
        """Fold the gammas into the output projection."""
        fold_gammas(self)
        return self
