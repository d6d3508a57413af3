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

    def fold(self) -> 'FusedFeedForward':
        """Join the first layer and GELU."""
        return FusedFeedForward(self)


class FusedFeedForward(FeedForward):
    """:class:`FeedForward` for inference, its first layer and GELU in one kernel.

    Args:
        mlp: The module whose layers it takes over, folded already.
    """

    def __init__(self, mlp: FeedForward) -> None:
        nn.Sequential.__init__(self, *mlp)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self[2](self[0](x, act='gelu'))
