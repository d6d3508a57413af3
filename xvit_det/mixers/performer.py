"""Performer: softmax attention approximated by random features, at a cost linear in the number of tokens.

"Rethinking Attention with Performers" (arXiv 2009.14794), Equations 4 to 6 and 8, and Section 2.4 for the orthogonal
features.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.errors import InputError
from xvit_det.mixers.base import TokenMixer, merge_heads, resolve_head_dims, split_heads
from xvit_det.mixers.rotary import RotaryPosition

KERNELS = ('softmax', 'relu')
SOFTMAX_EPS = 1e-4
RELU_EPS = 1e-3


def orthogonal_features(num_features: int, head_dims: int) -> Tensor:
    """Draw random directions (m, d), as a Gaussian would have them but orthogonal within each block of d rows."""
    blocks = [
        torch.linalg.qr(torch.randn(head_dims, head_dims))[0].T  # rows of length 1
        for _ in range(math.ceil(num_features / head_dims))
    ]
    lengths = torch.randn(num_features, head_dims).norm(dim=1, keepdim=True)
    return torch.cat(blocks)[:num_features] * lengths


class PerformerAttention(TokenMixer):
    """``φ(q) (φ(k)ᵀ v)``, divided by ``φ(q) Σ φ(k)``: attention with the kernel that φ's inner product estimates.

    ``kernel='softmax'``, FAVOR+: ``φ(u) = exp(W t - |t|²/2 - c) + 1e-4`` with ``t = u / d^(1/4)``, an unbiased estimate
    of softmax attention's ``exp(q kᵀ / √d)`` but for the 1e-4. The stabiliser c is the maximum over the features of
    each query, and over features and tokens of an image's keys in each head; the released ViX code takes the latter
    over the whole batch, which makes an image's result depend on the others. ``kernel='relu'``: ``φ(u) = relu(W t) +
    1e-3``, which approximates nothing but learns well.

    The "Vision Xformers" paper describes the ReLU kernel and a local window of 256; in its released code both are
    switched off by other options, so the defaults here are the softmax kernel and no local heads.

    Args:
        embed_dims: Width C of the tokens.
        num_heads: Number of heads H.
        head_dims: Channels d of each head; ``None``: C / H.
        kernel: ``'softmax'`` or ``'relu'``.
        num_features: Number m of random features; ``None``: ⌊d ln d⌋.
        local_heads: This many of the heads attend, by exact softmax, to nearby tokens only.
        window: Tokens in a window of the local heads; they see their own window and the two beside it.
        redraw_interval: Draw new random features after this many training steps; ``None``: never, as in the released
            ViX code.
        rotary: Turns queries and keys by their position.

    Raises:
        InputError: An unknown kernel, more local heads than heads, or no feature, window or interval.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        head_dims: int | None = None,
        *,
        kernel: str = 'softmax',
        num_features: int | None = None,
        local_heads: int = 0,
        window: int = 256,
        redraw_interval: int | None = None,
        rotary: RotaryPosition | None = None,
    ) -> None:
        super().__init__(embed_dims)
        head_dims = resolve_head_dims(embed_dims, num_heads, head_dims)
        num_features = int(head_dims * math.log(head_dims)) if num_features is None else num_features
        if kernel not in KERNELS:
            raise InputError(f'performer kernel {kernel!r} is not one of {", ".join(KERNELS)}')
        if not 0 <= local_heads <= num_heads:
            raise InputError(f'local_heads={local_heads} is not between 0 and num_heads={num_heads}')
        for name, value in (('num_features', num_features), ('window', window), ('redraw_interval', redraw_interval)):
            if value is not None and value < 1:
                raise InputError(f'performer {name}={value} is not at least 1')
        self.num_heads = num_heads
        self.kernel = kernel
        self.local_heads = local_heads
        self.window = window
        self.redraw_interval = redraw_interval
        self.rotary = rotary
        inner = num_heads * head_dims
        self.q = nn.Linear(embed_dims, inner)
        self.k = nn.Linear(embed_dims, inner)
        self.v = nn.Linear(embed_dims, inner)
        self.proj = nn.Linear(inner, embed_dims)
        self.register_buffer('features', orthogonal_features(num_features, head_dims))
        if redraw_interval is not None:
            self.register_buffer('steps', torch.zeros((), dtype=torch.long), persistent=False)

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        if self.redraw_interval is not None and self.training:
            self._count_step()
        q, k, v = (split_heads(layer(x), self.num_heads) for layer in (self.q, self.k, self.v))
        if self.rotary is not None:
            q, k = self.rotary(q, size), self.rotary(k, size)
        h = self.num_heads - self.local_heads  # the first heads see all tokens, the last ones their surroundings
        outs = []
        if h > 0:
            outs.append(self._global(q[:, :h], k[:, :h], v[:, :h], valid))
        if self.local_heads > 0:
            outs.append(local_attention(q[:, h:], k[:, h:], v[:, h:], self.window, valid))
        return self.proj(merge_heads(outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)))

    def redraw_features(self) -> None:
        """Replace the random features by new ones."""
        self.features.copy_(orthogonal_features(*self.features.shape))

    def _count_step(self) -> None:
        self.steps += 1
        if self.steps % self.redraw_interval == 0:
            self.redraw_features()

    def _global(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        feature_map = _softmax_features if self.kernel == 'softmax' else _relu_features
        # Exponentials of the keys' and queries' norms leave float16, so the whole approximation is in float32.
        with torch.autocast(q.device.type, enabled=False):
            out = linear_attention(*feature_map(q.float(), k.float(), self.features.float(), valid), v.float())
        return out.to(v.dtype)


def _softmax_features(
    q: Tensor, k: Tensor, features: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | float, Tensor | None]:
    """See :func:`linear_attention` for what is returned."""
    d = q.shape[-1]
    features = features * d**-0.25

    def exponents(u: Tensor) -> tuple[Tensor, Tensor]:
        return u @ features.T, u.square().sum(dim=-1, keepdim=True) * (0.5 * d**-0.5)  # W t (B, H, N, m), |t|²/2

    raw_q, half_q = exponents(q)
    raw_k, half_k = exponents(k)
    shown = raw_k.detach()
    if valid is not None:
        valid = valid[:, None, :, None].bool()  # (B, N) -> (B, 1, N, 1)
        shown = shown.masked_fill(~valid, float('-inf'))
    shift_k = shown.amax(dim=(-2, -1), keepdim=True)
    phi_q = (raw_q - (half_q + raw_q.detach().amax(dim=-1, keepdim=True))).exp_()
    phi_k = (raw_k - (half_k + shift_k)).exp_()
    return phi_q, phi_k, SOFTMAX_EPS, valid


def _relu_features(
    q: Tensor, k: Tensor, features: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | float, Tensor | None]:
    features = features * q.shape[-1] ** -0.25
    valid = None if valid is None else valid[:, None, :, None].bool()
    return (q @ features.T).relu_(), (k @ features.T).relu_(), RELU_EPS, valid


def linear_attention(phi_q: Tensor, phi_k: Tensor, eps: float, valid: Tensor | None, v: Tensor) -> Tensor:
    """``(φq + ε) ((φk + ε)ᵀ v)``, divided by its value for ``v = 1``.

    ε is not added to the features themselves, the largest tensors here, but to what they are multiplied with: the sum
        over tokens of
    ``(φk + ε) v`` is that of ``φk v`` plus ε times that of v, and likewise for the sum over features.

    Args:
        phi_q, phi_k: Features (B, H, N, m).
        eps: Added to each feature.
        valid: (B, 1, N, 1), false at keys that do not count.
        v: Values (B, H, N, d).

    Returns:
        (B, H, N, d).
    """
    v = F.pad(v, (0, 1), value=1.0)  # the last channel becomes the denominator
    if valid is not None:
        v = v * valid
    context = phi_k.transpose(-2, -1) @ v + eps * v.sum(dim=-2, keepdim=True)  # (B, H, m, d + 1)
    out = phi_q @ context + eps * context.sum(dim=-2, keepdim=True)  # (B, H, N, d + 1)
    return out[..., :-1] / out[..., -1:]


def local_attention(q: Tensor, k: Tensor, v: Tensor, window: int, valid: Tensor | None = None) -> Tensor:
    """Softmax attention of each window of tokens to itself and the windows before and after it.

    Args:
        q, k, v: (B, H, N, d).
        window: Tokens in a window.
        valid: (B, N), false at tokens that do not count.

    Returns:
        (B, H, N, d).
    """
    n = q.shape[-2]
    count = math.ceil(n / window)
    fill = count * window - n
    if valid is None:
        valid = torch.ones(1, n, dtype=torch.bool, device=q.device)

    def windows(u: Tensor) -> Tensor:
        return F.pad(u, (0, 0, 0, fill)).unflatten(-2, (count, window))  # (B, H, N, d) -> (B, H, n, w, d)

    def neighbours(u: Tensor) -> Tensor:
        u = F.pad(u, (0, 0, window, window + fill))
        return u.unfold(-2, 3 * window, window).transpose(-2, -1)  # (B, H, N + .., d) -> (B, H, n, 3w, d)

    mask = neighbours(valid.bool()[:, None, :, None]).transpose(-2, -1)  # (B, 1, n, 1, 3w)
    out = F.scaled_dot_product_attention(windows(q), neighbours(k), neighbours(v), attn_mask=mask)
    return out.flatten(-3, -2)[..., :n, :]
