"""From a backbone's maps to the strides that a detector's neck expects, as in XCiT's detection models."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xvit_det.errors import InputError
from xvit_det.layers.gelu import InplaceGELU
from xvit_det.layers.norm import build_norm, fold_norm
from xvit_det.layers.padding import ImageExtents
from xvit_det.layers.pooling import max_pool

STRIDES = (4, 8, 16, 32)


class FeaturePyramid(nn.Module):
    """Resamples each map to a stride of its own: transposed convolutions up, max-pooling down.

    Args:
        channels: Channels of each map.
        norm_cfg: See :func:`build_norm`.
        in_strides: Strides of the maps, powers of two; ``None``: all 16.
        strides: Strides of the outputs.
        ceil_pool: Whether pooling rounds odd sides up, so that no last row is lost, or down, as in XCiT.

    Raises:
        InputError: The ratio of a map's stride and its output stride is not a power of two.
    """

    def __init__(
        self,
        channels: Sequence[int],
        norm_cfg: dict,
        in_strides: Sequence[int] | None = None,
        strides: Sequence[int] = STRIDES,
        ceil_pool: bool = True,
    ) -> None:
        super().__init__()
        self.in_strides = tuple(in_strides or [16] * len(channels))
        self.strides = tuple(strides)
        self.levels = nn.ModuleList()
        for width, in_stride, stride in zip(channels, self.in_strides, self.strides, strict=True):
            up, down = in_stride // stride, stride // in_stride
            if stride == in_stride * down and down > 1:
                level: nn.Module = nn.MaxPool2d(down, ceil_mode=ceil_pool)
            elif in_stride == stride * up and up.bit_count() == 1:
                level = _upsample(width, up, norm_cfg)
            else:
                raise InputError(
                    f'a map of stride {in_stride} cannot become one of stride {stride}: the ratio is not a power of two'
                )
            self.levels.append(level)

    def forward(self, maps: Sequence[Tensor], extents: ImageExtents | None = None) -> tuple[Tensor, ...]:
        """Resample.

        Args:
            maps: A map (B, C, h, w) for every level, from the shallowest block to the deepest.
            extents: The area that each image of a padded batch covers; the maximum is taken inside only. (Transposed
                convolutions need no mask: their kernels do not overlap.)

        Returns:
            One map per level, with the strides of ``strides``.

        Raises:
            InputError: A map is smaller than a pool that rounds down.
        """
        return tuple(
            _pool_inside(level, x, extents, stride) if isinstance(level, nn.MaxPool2d) else level(x)
            for level, x, stride in zip(self.levels, maps, self.in_strides, strict=True)
        )

    def fold(self) -> 'FeaturePyramid':
        """Fold every norm into the transposed convolution before it."""
        for level in self.levels:
            if isinstance(level, nn.Sequential):
                for index, layer in enumerate(list(level)[:-1]):
                    if isinstance(layer, nn.ConvTranspose2d):
                        level[index + 1] = fold_norm(layer, level[index + 1])
        return self


def _upsample(channels: int, factor: int, norm_cfg: dict) -> nn.Module:
    """Transposed convolutions of stride 2, with a norm and GELU in between; nothing for a factor of 1."""
    layers: list[nn.Module] = []
    while factor > 1:
        if layers:
            layers += [build_norm(norm_cfg, channels), InplaceGELU()]
        layers.append(nn.ConvTranspose2d(channels, channels, 2, stride=2))
        factor //= 2
    return nn.Sequential(*layers)


def _pool_inside(pool: nn.MaxPool2d, x: Tensor, extents: ImageExtents | None, stride: int) -> Tensor:
    assert isinstance(pool.kernel_size, int)
    if not pool.ceil_mode and min(x.shape[-2:]) < pool.kernel_size:
        raise InputError(
            f'a map of {x.shape[-2]} x {x.shape[-1]} is too small for XCiT, which pools it by {pool.kernel_size} and '
            'rounds down; pad the images, or set ceil_pool=True in a dict as arch'
        )
    mask = None if extents is None else extents.mask(x.shape[-2:], stride)
    if mask is None:
        return max_pool(x, pool.kernel_size, pool.kernel_size, ceil_mode=pool.ceil_mode)
    lowest = torch.finfo(x.dtype).min  # not -inf, of which onnxruntime's pooling makes this number
    x = max_pool(x.masked_fill(~mask, lowest), pool.kernel_size, pool.kernel_size, ceil_mode=pool.ceil_mode)
    return x.masked_fill(x == lowest, 0)
