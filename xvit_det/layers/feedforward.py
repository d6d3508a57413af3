"""The two-layer MLP of a transformer block."""

from torch import Tensor, nn

from xvit_det.layers.gelu import InplaceGELU


class FeedForward(nn.Sequential):
    """Linear, GELU, Linear, applied to each token.

    Args:
        embed_dims: Width C of the tokens.
        hidden_dims: Hidden width.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__(nn.Linear(embed_dims, hidden_dims), InplaceGELU(), nn.Linear(hidden_dims, embed_dims))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return super().forward(x)
