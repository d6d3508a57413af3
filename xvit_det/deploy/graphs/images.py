"""The first step of every exported model: what its data preprocessor does to a batch of images."""

from typing import Any

import torch
from torch import Tensor, nn

from xvit_det.layers.padding import ImageExtents


class Normalize(nn.Module):
    """Images of a padded batch as the model takes them.

    Args:
        preprocessor: The model's data preprocessor, of mmdet, mmpretrain or mmseg.
        takes_rgb: Whether its own input is RGB, as that of CIFAR-10's datasets, instead of BGR.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: Any, takes_rgb: bool = False) -> None:
        super().__init__()
        swaps = next(
            (
                bool(getattr(preprocessor, name))
                for name in ('_channel_conversion', 'channel_conversion', 'to_rgb')
                if hasattr(preprocessor, name)
            ),
            False,
        )
        self.to_bgr = swaps == takes_rgb  # the exported model takes RGB
        self.pad_value = float(getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0)))
        mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
        self.register_buffer('mean', torch.zeros(3, 1, 1) if mean is None else mean.detach().float().reshape(-1, 1, 1))
        self.register_buffer('std', torch.ones(3, 1, 1) if std is None else std.detach().float().reshape(-1, 1, 1))

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Normalise.

        Args:
            images: (B, H, W, 3) in RGB, uint8.
            sizes: (B, 2), height and width in pixels that each image covers from the top left; ``None``: all of it.

        Returns:
            (B, 3, H, W) in float32, the padding as the model knows it from training.
        """
        x = images.permute(0, 3, 1, 2).float()  # (B, H, W, 3) -> (B, 3, H, W)
        if self.to_bgr:
            x = x.flip(1)
        x = (x - self.mean) / self.std
        if sizes is None:
            return x
        inside = ImageExtents(sizes).mask(x.shape[2:], stride=1)
        return x if inside is None else torch.where(inside, x, self.pad_value)
