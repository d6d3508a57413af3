"""Padded batches: which area each image covers, and masks for the rest."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xvit_det.errors import InputError


class ImageExtents:
    """Height and width of each image in a padded batch; images start at the top left.

    Args:
        sizes: (B, 2), height and width of each image in pixels, on the batch's device.
    """

    def __init__(self, sizes: Tensor) -> None:
        self.sizes = sizes
        # Known sizes save the masks where nothing is padded. Compiled and traced graphs must not depend on them, and a
        # GPU would have to finish its work first.
        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
        self._known = sizes.tolist() if sizes.device.type == 'cpu' and not tracing else None

    @classmethod
    def from_sizes(cls, sizes: Tensor, x: Tensor) -> 'ImageExtents':
        """From the sizes (B, 2), height and width, that the caller gives for the images of a batch (B, C, H, W).

        Raises:
            InputError: Not two numbers for each image, or a size that does not fit into the batch.
        """
        sizes = torch.as_tensor(sizes)  # checked where it is: on the CPU, a GPU need not be waited for
        limits = torch.tensor(x.shape[-2:], device=sizes.device)
        if sizes.shape != (len(x), 2) or not ((sizes >= 1) & (sizes <= limits)).all():
            raise InputError(
                f'image_sizes {sizes.tolist()} is not a (height, width) within {tuple(x.shape[-2:])} for each of the '
                f'{len(x)} images'
            )
        return cls(sizes.to(x.device))

    @classmethod
    def from_zeros(cls, x: Tensor) -> 'ImageExtents':
        """Find the extents in a batch (B, C, H, W) whose padding, at the bottom and the right, is exactly zero.

        This is how mmdet's ``DetDataPreprocessor`` pads by default (``pad_value=0``): after normalisation, where no
        pixel is exactly zero because the means are fractional. An image of only zeros counts as covering the whole
        batch.
        """
        pixels = (x != 0).any(dim=1)  # (B, C, H, W) -> (B, H, W)
        sizes = []
        for axis in (2, 1):
            seen = pixels.any(dim=axis)  # (B, H) or (B, W)
            length = seen.shape[1]
            extent = (seen * torch.arange(1, length + 1, device=x.device)).amax(dim=1)
            sizes.append(torch.where(extent > 0, extent, length))
        return cls(torch.stack(sizes, dim=1))

    def at_stride(self, stride: int) -> Tensor:
        """(B, 2): the extents on a map of that stride, ⌈H/stride⌉ and ⌈W/stride⌉."""
        return (self.sizes + stride - 1) // stride

    def mask(self, map_size: Sequence[int], stride: int) -> Tensor | None:
        """(B, 1, h, w) bool, true inside each image on a map of that size and stride; ``None`` if true everywhere."""
        h, w = map_size
        if self._known and all(-(-a // stride) >= h and -(-b // stride) >= w for a, b in self._known):
            return None
        rows, columns = self.at_stride(stride).unbind(dim=1)
        inside_rows = torch.arange(h, device=rows.device) < rows[:, None]  # (B, h)
        inside_columns = torch.arange(w, device=rows.device) < columns[:, None]  # (B, w)
        return inside_rows[:, None, :, None] & inside_columns[:, None, None, :]

    def valid(self, map_size: Sequence[int], stride: int, num_prefix: int = 0) -> Tensor | None:
        """(B, N) bool, :meth:`mask` as tokens, after ``num_prefix`` that are always valid."""
        mask = self.mask(map_size, stride)
        return None if mask is None else F.pad(mask.flatten(1), (num_prefix, 0), value=True)  # (B, 1, h, w) -> (B, N)


def find_extents(x: Tensor, sizes: Tensor | None) -> tuple[Tensor, ImageExtents]:
    """What the images of a batch (B, C, H, W) cover, as given or by its zeros, and the batch with zeros elsewhere.

    Args:
        x: The batch, which is left as it is.
        sizes: See :meth:`ImageExtents.from_sizes`; ``None``: see :meth:`ImageExtents.from_zeros`.
    """
    if sizes is None:
        return x, ImageExtents.from_zeros(x)
    extents = ImageExtents.from_sizes(sizes, x)
    return zero_padding_(x.clone(), extents, stride=1), extents


def zero_padding_(x: Tensor, extents: ImageExtents | None, stride: int) -> Tensor:
    """Zero the area outside the images in maps (B, C, h, w) of that stride, in place, and return them.

    In place, because allocating a tensor of a stem's size takes ten times as long as the multiplication.
    """
    mask = None if extents is None else extents.mask(x.shape[-2:], stride)
    return x if mask is None else x.mul_(mask)
