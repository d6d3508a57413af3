"""Tokens as maps and back, without copying: contiguous tokens are a channels-last map."""

from torch import Tensor


def tokens_to_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, C) -> (B, C, h, w), N = h·w in row-major order; a channels-last view."""
    # In this order the strides are those of a channels-last map for a batch of one, too: convolutions go by them.
    return x.unflatten(1, size).permute(0, 3, 1, 2)


def map_to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, N, C); a view of a channels-last map."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
