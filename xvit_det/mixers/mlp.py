"""MLP-Mixer's token mixing: an MLP along the sequence, with a weight for every pair of tokens.

"MLP-Mixer: An all-MLP Architecture for Vision" (arXiv 2105.01601), Equation 1, first line.
"""

from torch import Tensor, nn

from xvit_det.errors import InputError
from xvit_det.mixers.base import TokenMixer


class MLPMixer(TokenMixer):
    """``W₂ gelu(W₁ x)`` along the tokens, with weights shared by all channels, for a fixed number of tokens.

    Args:
        embed_dims: Width C of the tokens.
        grid: (h, w) of the tokens.
        num_prefix: Tokens before the grid's.
        expansion: Hidden width, as a multiple of the number of tokens.

    Raises:
        InputError: The hidden width is zero.
    """

    any_grid = False
    feels_padding = 'every output has a weight for each token'

    def __init__(self, embed_dims: int, *, grid: tuple[int, int], num_prefix: int = 0, expansion: float = 1.0) -> None:
        super().__init__(embed_dims)
        self.num_tokens = num_prefix + grid[0] * grid[1]
        hidden = int(expansion * self.num_tokens)
        if hidden < 1:
            raise InputError(f'mlp expansion={expansion} gives a hidden width of zero; use a larger one')
        self.mlp = nn.Sequential(
            nn.Conv1d(self.num_tokens, hidden, 1), nn.GELU(), nn.Conv1d(hidden, self.num_tokens, 1)
        )

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        if valid is not None:
            raise InputError(f'mlp cannot mask padded tokens: {self.feels_padding}')
        if x.shape[1] != self.num_tokens:
            raise InputError(f'mlp is bound to {self.num_tokens} tokens, but got {x.shape[1]}')
        return self.mlp(x)  # tokens are the convolutions' channels
