"""Nyström attention: softmax attention approximated through a few landmark tokens, at linear cost.

"Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention" (arXiv 2102.03902), Equations 13 and 14 and
Algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.errors import InputError
from xvit_det.functional import merge_heads, pad_amount, split_parts, upcast, without_autocast
from xvit_det.mixers.base import TokenMixer, resolve_head_dims
from xvit_det.mixers.rotary import RotaryPosition


class NystromAttention(TokenMixer):
    """``softmax(q k̃ᵀ / √d) softmax(q̃ k̃ᵀ / √d)⁺ (softmax(q̃ kᵀ / √d) v)``, with means of consecutive tokens as landmarks
    q̃, k̃, plus a convolution of v.

    Multiplied from the right, the landmarks' outputs ``softmax(q̃ kᵀ / √d) v`` become the values of a second attention,
    from all queries to the landmarks. Both are calls of ``scaled_dot_product_attention``: no (N, m) matrix is stored.

    The sequence is left-padded with zero tokens to a multiple of the number of landmarks. In the released code, and
    here by default, they take part in means and softmax sums; ``mask_fill`` masks them, and so does ``qkv_bias``, with
    which their q, k and v would not be zero.

    Args:
        embed_dims: Width C of the tokens.
        num_heads: Number of heads H.
        head_dims: Channels d of each head; ``None``: C / H.
        landmarks: Number m of landmarks.
        pinv_iterations: Iterations of the pseudo-inverse.
        conv_kernel: Odd kernel size of the convolution of v along the sequence; ``None``: no convolution.
        mask_fill: Mask these padding tokens.
        qkv_bias: Give q, k and v a bias, as DeiT does.
        rotary: Rotates queries and keys by their position.

    Raises:
        InputError: The width is not divisible by the number of heads, or a number is out of range.
    """

    feels_padding = 'its landmarks are means of consecutive tokens of the whole map'

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        head_dims: int | None = None,
        *,
        landmarks: int = 64,
        pinv_iterations: int = 6,
        conv_kernel: int | None = 33,
        mask_fill: bool = False,
        qkv_bias: bool = False,
        rotary: RotaryPosition | None = None,
    ) -> None:
        super().__init__(embed_dims)
        head_dims = resolve_head_dims(embed_dims, num_heads, head_dims)
        for name, value in (('landmarks', landmarks), ('pinv_iterations', pinv_iterations)):
            if value < 1:
                raise InputError(f'nystrom {name}={value} is not at least 1')
        if conv_kernel is not None and (conv_kernel < 1 or conv_kernel % 2 == 0):
            raise InputError(f'nystrom conv_kernel={conv_kernel} is not a positive odd number or None')
        self.num_heads = num_heads
        self.landmarks = landmarks
        self.pinv_iterations = pinv_iterations
        self.mask_fill = mask_fill or qkv_bias
        self.rotary = rotary
        self.qkv = nn.Linear(embed_dims, 3 * num_heads * head_dims, bias=qkv_bias)
        self.proj = nn.Linear(num_heads * head_dims, embed_dims)
        self.conv = None
        if conv_kernel is not None:
            self.conv = nn.Conv2d(
                num_heads, num_heads, (conv_kernel, 1), padding=(conv_kernel // 2, 0), groups=num_heads, bias=False
            )

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        n = x.shape[1]
        if n < self.landmarks:
            raise InputError(f'nystrom has landmarks={self.landmarks}, more than the {n} tokens; use fewer')
        fill = pad_amount(n, self.landmarks)
        if self.mask_fill and fill and valid is None:
            valid = torch.ones(1, n, dtype=torch.bool, device=x.device)
        if valid is not None:
            # With mask_fill the zeros in front are masked like padding, otherwise they count as valid.
            valid = F.pad(valid.bool(), (fill, 0), value=not self.mask_fill)[:, None, :, None]  # (B, 1, N', 1)
        x = F.pad(x, (0, 0, fill, 0)) if fill else x  # q, k and v are zero there: without a bias, or masked
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)  # (B, N', 3·H·d) -> 3 x (B, H, N', d)
        if self.rotary is not None:
            q, k = self.rotary.rotate_both(q, k, size)
        if valid is not None:
            q, k, v = (u * valid for u in (q, k, v))
        out = merge_heads(nystrom_attention(q, k, v, self.landmarks, self.pinv_iterations, valid))
        if self.conv is not None:
            out = out + _convolve(merge_heads(v), self.conv)
        return self.proj(out[:, fill:])


def _convolve(v: Tensor, conv: nn.Conv2d) -> Tensor:
    """(B, N, H·d) -> (B, N, H·d): each head's filter, applied along the tokens to its d channels.

    Each filter is repeated d times, for a depthwise convolution in channels-last format: on CPUs that is several times
    faster than one group per head.
    """
    kernel = conv.weight.repeat_interleave(v.shape[2] // conv.groups, dim=0)  # (H·d, 1, K, 1)
    out = F.conv2d(v.transpose(1, 2)[..., None], kernel, padding=conv.padding, groups=len(kernel))
    return out[..., 0].transpose(1, 2)  # (B, H·d, N, 1) -> (B, N, H·d)


def nystrom_attention(
    q: Tensor, k: Tensor, v: Tensor, landmarks: int, pinv_iterations: int, valid: Tensor | None = None
) -> Tensor:
    """Attention through landmarks.

    Args:
        q, k, v: (B, H, N, d), N a multiple of ``landmarks``; zero where not valid.
        landmarks: Number m of landmarks.
        pinv_iterations: See :func:`pseudo_inverse`.
        valid: (B, 1, N, 1), false at masked tokens.

    Returns:
        (B, H, N, d).
    """
    if valid is None:
        q_marks, k_marks = (u.unflatten(2, (landmarks, -1)).mean(dim=3) for u in (q, k))  # (B, H, N, d) -> (B, H, m, d)
        key_mask, mark_mask = None, None
    else:
        counts = valid.unflatten(2, (landmarks, -1)).sum(dim=3)  # (B, 1, m, 1)
        q_marks, k_marks = (u.unflatten(2, (landmarks, -1)).sum(dim=3) / counts.clamp(min=1) for u in (q, k))
        key_mask, mark_mask = valid.transpose(-2, -1), (counts > 0).transpose(-2, -1)  # (B, 1, 1, N), (B, 1, 1, m)
    out = F.scaled_dot_product_attention(q_marks, k, v, attn_mask=key_mask)  # (B, H, m, d)
    with without_autocast(q):  # the iteration needs float32 precision
        attn = (upcast(q_marks) * q.shape[-1] ** -0.5) @ upcast(k_marks).transpose(-2, -1)  # (B, H, m, m)
        if mark_mask is None:
            attn = attn.softmax(dim=-1)
        else:  # a landmark without valid tokens becomes a zero row and column, also of the pseudo-inverse
            attn = attn.masked_fill(~mark_mask, float('-inf')).softmax(dim=-1) * mark_mask.transpose(-2, -1)
        values = pseudo_inverse(attn, pinv_iterations) @ upcast(out)
    return F.scaled_dot_product_attention(q, k_marks, values.to(q.dtype), attn_mask=mark_mask)


def pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """Approximate the Moore-Penrose inverse of matrices (..., m, m) by a third-order iteration.

    Each matrix has its own initial scale; the released ViX code takes maxima over the whole batch, which makes an
    image's result depend on the others.
    """
    columns, rows = a.abs().sum(dim=-2).amax(dim=-1), a.abs().sum(dim=-1).amax(dim=-1)
    z = a.transpose(-2, -1) / (columns * rows)[..., None, None]
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z
