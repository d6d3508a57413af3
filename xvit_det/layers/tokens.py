"""Tokens as maps and back, without copying: contiguous tokens are a channels-last map."""

from torch import Tensor


def tokens_to_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, C) -> (B, C, h, w), N = h·w in row-major order; a channels-last view."""
    return x.transpose(1, 2).unflatten(2, size)


def map_to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, N, C); a view of a channels-last map."""
    return x.flatten(2).transpose(1, 2)
