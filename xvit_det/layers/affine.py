"""Learnable scale and shift of every channel, from ResMLP (arXiv 2105.03404), Equation 1."""

import torch
from torch import Tensor, nn


class Affine(nn.Module):
    """``alpha · x + beta`` per channel: X-ViT's replacement for a norm after each module.

    Args:
        embed_dims: Channels C of the last axis.
        scale: Initial value of alpha; small for deep networks, so that every branch starts near zero.
    """

    def __init__(self, embed_dims: int, scale: float = 1.0) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((embed_dims,), float(scale)))
        self.beta = nn.Parameter(torch.zeros(embed_dims))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return torch.addcmul(self.beta, x, self.alpha)
