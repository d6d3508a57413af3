"""From an image to the tokens of the first block."""

import torch
from torch import Tensor, nn

from xvit_det.functional import map_to_tokens
from xvit_det.layers.padding import ImageExtents


class Embedding(nn.Module):
    """A stem, an optional class token, and an optional position embedding.

    Args:
        stem: Image (B, 3, H, W), and the area that each image covers -> map (B, C, h, w).
        stride: Its stride.
        position: A module that maps a size to position embeddings (1, N, C), added to the tokens; ``None``: none.
        cls_dims: Width of a class token, prepended to the others; ``None``: none.
        cls_std: Standard deviation of its normal initialisation.
    """

    def __init__(
        self,
        stem: nn.Module,
        stride: int,
        position: nn.Module | None = None,
        cls_dims: int | None = None,
        cls_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stride = stride
        self.pos_embed = position
        self.cls_token: nn.Parameter | None = None
        if cls_dims is not None:
            self.cls_token = nn.Parameter(torch.empty(1, 1, cls_dims).normal_(std=cls_std))

    def forward(
        self, image: Tensor, size: None = None, extents: ImageExtents | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """Image (B, 3, H, W) -> tokens (B, N, C) and the size (h, w) of their map.

        ``extents``: The area that each image covers; the rest is zero.
        """
        features = self.stem(image, extents)
        h, w = features.shape[-2:]
        x = map_to_tokens(features)  # (B, C, h, w) -> (B, N, C)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1), x), dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed((h, w), None if extents is None else extents.at_stride(self.stride))
        return x, (h, w)
