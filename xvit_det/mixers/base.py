"""The interface of all token mixers."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from torch import Tensor, nn

from xvit_det.errors import InputError


class TokenMixer(nn.Module, ABC):
    """Exchanges information between tokens: ``(B, N, C) -> (B, N, C)``. Works on its own, outside any backbone.

    Args:
        embed_dims: Width C of the tokens.

    Attributes:
        any_grid: Whether it takes any number of tokens, not only that of the grid it was built for.
        feels_padding: What of it depends on the size of a padded map although the padding is masked; empty: nothing, so
            that the tokens of an image become what they become without padding.
    """

    any_grid: ClassVar[bool] = True
    feels_padding: str = ''

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.embed_dims = embed_dims

    @abstractmethod
    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """Mix tokens.

        Args:
            x: Tokens (B, N, C): prefix tokens such as a class token, then h·w patches in row-major order.
            valid: (B, N), bool or 0/1, false at padding. Outputs at valid tokens do not depend on the others. ``None``:
                all tokens are valid.
            size: (h, w) of the map, for mixers that use positions. ``None``: the tokens are a plain sequence.

        Returns:
            Tokens (B, N, C).

        Raises:
            InputError: The mixer does not support ``valid``, or is bound to another number of tokens.
        """

    def recomputing(self) -> AbstractContextManager:
        """Context of a forward pass that repeats the same step, as checkpointing does: state that a mixer keeps between
        steps must not change inside."""
        return nullcontext()


class MatrixMixer(TokenMixer):
    """A mixer ``proj(t · M)``: each head multiplies its channels t of a token by one matrix M, made from all tokens.

    A fused block multiplies the small matrices with the output projection instead of with every token, see
    :meth:`product`.

    Attributes:
        num_heads: Number of heads H.
        qkv: Projects the tokens (B, N, C) to all that the mixer needs.
        proj: Projects the heads' e channels back to C.
    """

    num_heads: int
    qkv: nn.Linear
    proj: nn.Linear

    @abstractmethod
    def product(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Factors of the output, in inference: tokens and weight of a linear layer to which ``proj.bias`` is added.

        Args: as :meth:`forward`.

        Returns:
            Tokens (B, N, e), and a weight for each image (B, C, e), or for all (C, e).
        """

    def _project(self, matrix: Tensor) -> Tensor:
        """Matrices (B, H, c, c) times the output projection -> (B, C, e)."""
        proj = self.proj.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)  # (C, e) -> (H, c, C)
        return (matrix @ proj.to(matrix.dtype)).flatten(1, 2).mT  # (B, H, c, C) -> (B, e, C) -> (B, C, e)


def check_heads(attn_dims: int, num_heads: int) -> None:
    """Raise an ``InputError`` unless the attention's width is divisible by the number of heads."""
    if attn_dims % num_heads:
        raise InputError(f'attn_dims={attn_dims} is not divisible by num_heads={num_heads}')


def resolve_head_dims(embed_dims: int, num_heads: int, head_dims: int | None) -> int:
    """Channels per head: as given, or the width divided by the number of heads.

    Raises:
        InputError: The width is not divisible by the number of heads, or a number is not positive.
    """
    for name, value in (('num_heads', num_heads), ('head_dims', head_dims)):
        if value is not None and value < 1:
            raise InputError(f'{name}={value} is not at least 1')
    if head_dims is None and embed_dims % num_heads:
        raise InputError(f'embed_dims={embed_dims} is not divisible by num_heads={num_heads}; set head_dims')
    return head_dims or embed_dims // num_heads
