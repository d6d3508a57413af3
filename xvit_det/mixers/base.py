"""What every token mixer agrees to."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class TokenMixer(nn.Module, ABC):
    """Exchanges information between tokens: ``(B, N, C) -> (B, N, C)``, on its own, outside any backbone.

    Args:
        embed_dims: Width C of the tokens.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.embed_dims = embed_dims

    @abstractmethod
    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Mix tokens.

        Args:
            x: Tokens (B, N, C).
            valid: (B, N), bool or 0/1, true where a token shows the image and false where it is padding. The
                outputs at valid tokens do not depend on the others. ``None``: all tokens are valid.

        Returns:
            Tokens (B, N, C).
        """
