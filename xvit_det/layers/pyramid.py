"""From maps of one stride to the four strides that a detector's neck takes, as in XCiT's detection models."""

from collections.abc import Sequence

from torch import Tensor, nn

from xvit_det.layers.norm import build_norm
from xvit_det.layers.padding import ImageExtents


class FeaturePyramid(nn.Module):
    """Maps of stride 16 -> maps of strides 4, 8, 16, 32: transposed convolutions up, max-pooling down.

    Args:
        embed_dims: Channels C of every map.
        norm_cfg: See :func:`build_norm`.
        num_levels: 4, or 3 for detectors that start at stride 8, such as RetinaNet and DINO.
    """

    def __init__(self, embed_dims: int, norm_cfg: dict, num_levels: int = 4) -> None:
        super().__init__()
        self.strides = (4, 8, 16, 32)[-num_levels:]
        if num_levels == 4:
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
            maps: One map (B, C, h, w) of stride 16 for every level, from the shallowest block to the deepest.
            extents: Which part of a padded batch each image covers; the maximum is taken inside only. (The transposed
                convolutions need no care: their kernels do not overlap.)

        Returns:
            (B, C, 4h, 4w), (B, C, 2h, 2w), (B, C, h, w), (B, C, ⌈h/2⌉, ⌈w/2⌉); without the first for three levels.
        """
        *first, second, third, fourth = maps
        mask = None if extents is None else extents.mask(fourth.shape[-2:], stride=16)
        if mask is not None:
            fourth = fourth.masked_fill(~mask, float('-inf'))
        fourth = self.down2(fourth)
        if mask is not None:
            fourth = fourth.masked_fill(fourth.isneginf(), 0)
        return *(self.up4(x) for x in first), self.up2(second), third, fourth
