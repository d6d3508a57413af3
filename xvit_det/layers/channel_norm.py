"""Normalisation over the channels of each token, as the CvT code behind CvX has it."""

import torch
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """``(x - mean) / (std + ε) · gain + bias`` over the channels: a LayerNorm but for where ε is added.

    Args:
        embed_dims: Width C of the tokens.
        eps: ε.
    """

    uncounted_in_papers = ('gain', 'bias')

    def __init__(self, embed_dims: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(embed_dims))
        self.bias = nn.Parameter(torch.zeros(embed_dims))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        variance, mean = torch.var_mean(x.float(), dim=-1, correction=0, keepdim=True)
        # Constant tokens, as a blank image has them, have no deviation, of which the root has no gradient.
        deviation = torch.where(variance > 0, variance, 1).sqrt() * (variance > 0)
        normed = ((x - mean) / (deviation + self.eps)).to(x.dtype)
        return torch.addcmul(self.bias.to(x.dtype), normed, self.gain.to(x.dtype))
