"""What every token mixer agrees to."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from torch import Tensor, nn

from xvit_det.errors import InputError


class TokenMixer(nn.Module, ABC):
    """Exchanges information between tokens: ``(B, N, C) -> (B, N, C)``, on its own, outside any backbone.

    Args:
        embed_dims: Width C of the tokens.

    Attributes:
        any_grid: Whether any number of tokens will do, and not only that of the grid it was built for.
    """

    any_grid: ClassVar[bool] = True

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.embed_dims = embed_dims

    @abstractmethod
    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """Mix tokens.

        Args:
            x: Tokens (B, N, C): first those without a place in the image, such as a class token, then h·w patches in
                row-major order.
            valid: (B, N), bool or 0/1, true where a token shows the image and false where it is padding. The
                outputs at valid tokens do not depend on the others. ``None``: all tokens are valid.
            size: (h, w), for mixers that care where a token lies. ``None``: tokens are a mere sequence.

        Returns:
            Tokens (B, N, C).

        Raises:
            InputError: A mixer that cannot leave tokens out is given ``valid``, or one that is bound to a grid is given
                another number of tokens.
        """

    def repeating(self) -> AbstractContextManager:
        """What surrounds a forward pass that is made again for the same step, as checkpointing does: a mixer that keeps
        something from step to step leaves it alone in there."""
        return nullcontext()


def resolve_head_dims(embed_dims: int, num_heads: int, head_dims: int | None) -> int:
    """Channels of a head: as given, or the width divided among the heads.

    Raises:
        InputError: The width does not split into the heads, or a number is not positive.
    """
    for name, value in (('num_heads', num_heads), ('head_dims', head_dims)):
        if value is not None and value < 1:
            raise InputError(f'{name}={value} is not at least 1')
    if head_dims is None and embed_dims % num_heads:
        raise InputError(f'embed_dims={embed_dims} does not split into num_heads={num_heads}; give head_dims')
    return head_dims or embed_dims // num_heads
