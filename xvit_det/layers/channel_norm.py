"""Normalisation over the channels of each token, as in the CvT code behind CvX."""

import torch
from torch import Tensor, nn

from xvit_det.functional import upcast


class ChannelNorm(nn.Module):
    """``(x - mean) / (std + ε) · weight + bias`` over the channels: a LayerNorm, except for where ε is added.

    Args:
        embed_dims: Width C of the tokens.
        eps: ε.
    """

    def __init__(self, embed_dims: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(embed_dims))
        self.bias = nn.Parameter(torch.zeros(embed_dims))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        variance, mean = torch.var_mean(upcast(x), dim=-1, correction=0, keepdim=True)
        # sqrt has an infinite gradient at zero variance, which the constant tokens of a blank image have.
        std = torch.where(variance > 0, variance, 1).sqrt() * (variance > 0)
        normed = ((x - mean) / (std + self.eps)).to(x.dtype)
        return torch.addcmul(self.bias.to(x.dtype), normed, self.weight.to(x.dtype))
