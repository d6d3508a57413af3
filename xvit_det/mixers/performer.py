"""Performer: softmax attention approximated by random features, at linear cost.

"Rethinking Attention with Performers" (arXiv 2009.14794), Equations 4 to 6 and 8, and Section 2.4 for the orthogonal
features.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.errors import InputError
from xvit_det.functional import merge_heads, not_compiled, split_heads, upcast, without_autocast
from xvit_det.mixers.base import TokenMixer, resolve_head_dims
from xvit_det.mixers.rotary import RotaryPosition

DEFAULT_EPS = {'softmax': 1e-4, 'relu': 1e-3}  # of each kernel, as in the released code


def orthogonal_features(num_features: int, head_dims: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw random directions (m, d), distributed like Gaussian ones but orthogonal within each block of d rows."""
    blocks = [
        torch.linalg.qr(torch.randn(head_dims, head_dims, generator=generator))[0].T  # unit rows
        for _ in range(math.ceil(num_features / head_dims))
    ]
    lengths = torch.randn(num_features, head_dims, generator=generator).norm(dim=1, keepdim=True)
    return torch.cat(blocks)[:num_features] * lengths


class PerformerAttention(TokenMixer):
    """``φ(q) (φ(k)ᵀ v)``, divided by ``φ(q) Σ φ(k)``: attention with the kernel that φ's inner product estimates.

    ``kernel='softmax'``, FAVOR+: ``φ(u) = exp(W t - |t|²/2 - c) + ε`` with ``t = u / d^(1/4)``, an unbiased estimate of
    softmax attention's ``exp(q kᵀ / √d)``, apart from ε. The stabiliser c is the maximum of ``W t``: per query, over
    its features; for keys, per image and head, over tokens and features. The released ViX code takes the keys' maximum
    over the whole batch, which makes an image's result depend on the others.

    ``kernel='relu'``: ``φ(u) = relu(W t) + ε``, which does not estimate softmax attention.

    The longest key determines c, which leaves small features for the others, and the released ε = 1e-4 exceeds most of
    them: in a hybrid ViP trained on 2,000 images, 98 % of the keys' features are below it in three of the four layers.
    Attention there is close to a mean over all tokens, and the keys learn little. ``eps=1e-9`` fixes this; the default
    is the released value, which the models of the paper's tables use.

    The "Vision Xformers" paper describes the ReLU kernel and a local window of 256; in its released code both are
    switched off by other options, so the defaults here are the softmax kernel and no local heads.

    Args:
        embed_dims: Width C of the tokens.
        num_heads: Number of heads H.
        head_dims: Channels d of each head; ``None``: C / H.
        kernel: ``'softmax'`` or ``'relu'``.
        num_features: Number m of random features; ``None``: ⌊d ln d⌋.
        eps: The ε added to each feature; ``None``: 1e-4 for the softmax kernel, 1e-3 for the ReLU kernel.
        local_heads: Number of heads that attend to nearby tokens only, by exact softmax attention.
        window: Tokens per window of the local heads; each attends to its own and the two adjacent windows.
        redraw_interval: Draw new random features after this many training steps; ``None``: never, as in the released
            ViX code.
        qkv_bias: Give q, k and v a bias.
        rotary: Rotates queries and keys by their position.

    Raises:
        InputError: An unknown kernel, more local heads than heads, or a number that is not positive.
    """

    features: Tensor

    def __init__(
        self,
        embed_dims: int,
        num_heads: int = 8,
        head_dims: int | None = None,
        *,
        kernel: str = 'softmax',
        num_features: int | None = None,
        eps: float | None = None,
        local_heads: int = 0,
        window: int = 256,
        redraw_interval: int | None = None,
        qkv_bias: bool = True,
        rotary: RotaryPosition | None = None,
    ) -> None:
        super().__init__(embed_dims)
        head_dims = resolve_head_dims(embed_dims, num_heads, head_dims)
        num_features = int(head_dims * math.log(head_dims)) if num_features is None else num_features
        if kernel not in DEFAULT_EPS:
            raise InputError(f'performer kernel {kernel!r} is not one of {", ".join(DEFAULT_EPS)}')
        if not 0 <= local_heads <= num_heads:
            raise InputError(f'local_heads={local_heads} is not between 0 and num_heads={num_heads}')
        for name, value in (('num_features', num_features), ('window', window), ('redraw_interval', redraw_interval)):
            if value is not None and value < 1:
                raise InputError(f'performer {name}={value} is not at least 1')
        self.eps = DEFAULT_EPS[kernel] if eps is None else eps
        if not self.eps > 0:  # without it, all features of a query may underflow
            raise InputError(f'performer eps={eps} is not greater than 0')
        self.num_heads = num_heads
        self.kernel = kernel
        self.local_heads = local_heads
        self.feels_padding = 'its windows are consecutive tokens of the whole map' if local_heads else ''
        self.window = window
        self.redraw_interval = redraw_interval
        self.rotary = rotary
        inner = num_heads * head_dims
        self.q = nn.Linear(embed_dims, inner, bias=qkv_bias)
        self.k = nn.Linear(embed_dims, inner, bias=qkv_bias)
        self.v = nn.Linear(embed_dims, inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, embed_dims)
        self.register_buffer('features', orthogonal_features(num_features, head_dims))
        self.steps = 0

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        if self.redraw_interval is not None and self.training:
            self._count_step()
        q, k, v = (split_heads(layer(x), self.num_heads) for layer in (self.q, self.k, self.v))
        if self.rotary is not None:
            q, k = self.rotary.rotate_both(q, k, size)
        h = self.num_heads - self.local_heads  # the first h heads are global, the others local
        outs = []
        if h > 0:
            outs.append(self._global(q[:, :h], k[:, :h], v[:, :h], valid))
        if self.local_heads > 0:
            outs.append(local_attention(q[:, h:], k[:, h:], v[:, h:], self.window, valid))
        return self.proj(merge_heads(outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)))

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """Do not count the repeated step."""
        interval, self.redraw_interval = self.redraw_interval, None
        try:
            yield
        finally:
            self.redraw_interval = interval

    def redraw_features(self) -> None:
        """Replace the random features by new ones.

        The old features are the seed: new ones then agree across the processes of a distributed run, differ between
        layers, and leave the global generator, whose draws checkpointing repeats, unchanged.
        """
        generator = torch.Generator().manual_seed(int(self.features.double().cpu().sum() * 2**32) % 2**63)
        num_features, head_dims = self.features.shape
        features = orthogonal_features(num_features, head_dims, generator)
        self.features = features.to(self.features)  # not in place: a backward pass may still need the old ones

    @not_compiled  # the count would otherwise be compiled in
    def _count_step(self) -> None:
        self.steps += 1
        if self.redraw_interval and self.steps % self.redraw_interval == 0:
            self.redraw_features()

    def _global(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        # Exponentials of the keys' and queries' norms overflow float16, so all of it is in float32.
        with without_autocast(q):
            out = linear_attention(upcast(q), upcast(k), upcast(v), upcast(self.features), self.kernel, self.eps, valid)
        return out.to(v.dtype)


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, directions: Tensor, kernel: str, eps: float, valid: Tensor | None = None
) -> Tensor:
    """``φ(q) (φ(k)ᵀ v)``, divided by its value for ``v = 1``.

    ε is not added to the features, the largest tensors here, but to their products: the sum over tokens of
    ``(φk + ε) v`` is that of ``φk v`` plus ε times that of v, and likewise for the sum over features.

    Args:
        q, k, v: (B, H, N, d).
        directions: (m, d), onto which φ projects queries and keys.
        kernel: ``'softmax'`` or ``'relu'``.
        eps: The ε added to each feature.
        valid: (B, N), false at masked keys.

    Returns:
        (B, H, N, d).
    """
    directions = directions * q.shape[-1] ** -0.25
    v = F.pad(v, (0, 1), value=1.0)  # the last channel becomes the denominator
    if valid is not None:
        valid = valid[:, None, :, None].bool()  # (B, N) -> (B, 1, N, 1)
        v = v * valid
    phi_k_t = random_features(k, directions, kernel, (-2, -1), valid).transpose(-2, -1)
    context = phi_k_t @ v + eps * v.sum(dim=-2, keepdim=True)  # (B, H, m, N) @ (B, H, N, d + 1) -> (B, H, m, d + 1)
    del phi_k_t  # before the queries' features are made, which are as large
    phi_q = random_features(q, directions, kernel, (-1,))
    out = phi_q @ context + eps * context.sum(dim=-2, keepdim=True)  # (B, H, N, d + 1)
    values, totals = out.split([out.shape[-1] - 1, 1], dim=-1)
    return values * totals.reciprocal()


def random_features(
    u: Tensor, directions: Tensor, kernel: str, dim: tuple[int, ...], valid: Tensor | None = None
) -> Tensor:
    """φ without ε. The softmax kernel is computed in place.

    Args:
        u: Queries or keys (B, H, N, d).
        directions: W (m, d), with the scale ``d^(-1/4)`` that turns u into t.
        kernel: ``'softmax'`` or ``'relu'``.
        dim: Axes of the maximum c in the softmax kernel's exponent.
        valid: (B, 1, N, 1), false at tokens that c ignores.

    Returns:
        (B, H, N, m).
    """
    raw = u @ directions.T
    if kernel == 'relu':
        return raw.relu_()
    if valid is not None:
        raw.masked_fill_(~valid, float('-inf'))
    half = u.square().sum(dim=-1, keepdim=True) * (0.5 * u.shape[-1] ** -0.5)  # |t|²/2, (B, H, N, 1)
    return raw.add_(-half - raw.detach().amax(dim=dim, keepdim=True)).exp_()


def local_attention(q: Tensor, k: Tensor, v: Tensor, window: int, valid: Tensor | None = None) -> Tensor:
    """Softmax attention from each window of tokens to itself and the two adjacent windows.

    Args:
        q, k, v: (B, H, N, d).
        window: Tokens per window.
        valid: (B, N), false at masked tokens.

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
