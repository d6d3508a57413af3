"""The transformer block: a token mixer and an MLP, each with a residual connection."""

from collections.abc import Callable

from torch import Tensor, nn

from xvit_det.layers.drop_path import DropPath
from xvit_det.layers.feedforward import FeedForward
from xvit_det.mixers import TokenMixer


class MixerBlock(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))``.

    Args:
        mixer: Token mixer; its ``embed_dims`` is the block's width.
        hidden_dims: Hidden width of the MLP.
        drop_path_rate: Probability of skipping a branch in training.
        norm: Builds a norm for a width; ``nn.Identity`` for none.
    """

    def __init__(
        self,
        mixer: TokenMixer,
        hidden_dims: int,
        drop_path_rate: float = 0.0,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.norm1 = norm(mixer.embed_dims)
        self.mixer = mixer
        self.norm2 = norm(mixer.embed_dims)
        self.mlp = FeedForward(mixer.embed_dims, hidden_dims)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """Tokens (B, N, C), whose last h·w form a map of ``size`` (h, w) -> (B, N, C).

        ``valid``: (B, N) bool, false at padding.
        """
        x = x + self.drop_path(self.mixer(self.norm1(x), valid, size))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PostNormBlock(MixerBlock):
    """The block of CCT: ``y = norm(x + mixer(norm(x)))``, then ``y + mlp(y)``.

    The second norm is applied to the residual stream itself.

    Args: as :class:`MixerBlock`.
    """

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """As :class:`MixerBlock`."""
        x = self.norm2(x + self.drop_path(self.mixer(self.norm1(x), valid, size)))
        return x + self.drop_path(self.mlp(x))
