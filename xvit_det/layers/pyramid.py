"""From maps of one stride to the four strides that a detector's neck takes, as in XCiT's detection models."""

from collections.abc import Sequence

from torch import Tensor, nn

from xvit_det.layers.norm import build_norm
from xvit_det.layers.padding import ImageExtents


class FeaturePyramid(nn.Module):
    """Four maps of stride 16 -> strides 4, 8, 16, 32: transposed convolutions up, max-pooling down.

    Args:
        embed_dims: Channels C of every map.
        norm_cfg: See :func:`build_norm`.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, embed_dims: int, norm_cfg: dict) -> None:
        super().__init__()
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2),
            build_norm(norm_cfg, embed_dims),
            nn.GELU(),
            nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2),
        )
        self.up2 = nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2)
        self.down2 = nn.MaxPool2d(2, ceil_mode=True)  # ceil: a last odd row is seen, and sizes are ⌈H/32⌉

    def forward(self, maps: Sequence[Tensor], extents: ImageExtents | None = None) -> tuple[Tensor, ...]:
        """Resample.

        Args:
            maps: Four maps (B, C, h, w) of stride 16, from the shallowest block to the deepest.
            extents: Which part of a padded batch each image covers; the maximum is taken inside only. (The transposed
                convolutions need no care: their kernels do not overlap.)

        Returns:
            (B, C, 4h, 4w), (B, C, 2h, 2w), (B, C, h, w), (B, C, ⌈h/2⌉, ⌈w/2⌉).
        """
        first, second, third, fourth = maps
        mask = None if extents is None else extents.mask(fourth.shape[-2:], stride=16)
        if mask is not None:
            fourth = fourth.masked_fill(~mask, float('-inf'))
        fourth = self.down2(fourth)
        if mask is not None:
            fourth = fourth.masked_fill(fourth.isneginf(), 0)
        return self.up4(first), self.up2(second), third, fourth
