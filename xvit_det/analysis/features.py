"""The maps that a trained model computes from an image: those of its backbone and of its neck."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xvit_det.backbones.base import Backbone
from xvit_det.errors import InputError
from xvit_det.functional import tokens_to_map

if TYPE_CHECKING:
    from xvit_det.inference import Predictor


class View(NamedTuple):
    """An image as a model sees it.

    Args:
        pixels: (h, w, 3) in RGB and uint8, after the resizing or cropping of the config.
        size: Height and width in the pixels in which positions are given: those of the image, or of the part that a
            config crops.
        batch: ``inputs`` (1, 3, H, W), normalised and padded, and ``data_samples``, as the model takes them.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    batch: dict[str, Any]

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of the image as x, y."""
        return self.size[1] / 2, self.size[0] / 2

    def stride(self, map_size: tuple[int, int]) -> int:
        """Pixels of the input between the tokens of a map (h, w).

        A power of two where one fits, with the last token covering a part only, or some pixels left over.
        """
        sides = [*zip(self.batch['inputs'].shape[-2:], map_size, strict=True)]
        for stride in (2**i for i in range(10)):
            if all(number in (side // stride, -(-side // stride)) for side, number in sides):
                return stride
        return max(1, round(max(side / number for side, number in sides)))

    def covered_size(self, map_size: tuple[int, int]) -> tuple[float, float]:
        """Height and width that a map (h, w) covers, in the same pixels as ``size``: more or less than the image."""
        stride, seen = self.stride(map_size), self.pixels.shape[:2]
        return map_size[0] * stride * self.size[0] / seen[0], map_size[1] * stride * self.size[1] / seen[1]

    def check_point(self, point: tuple[float, float]) -> None:
        """Raise an ``InputError`` unless the point x, y lies in the image."""
        (x, y), (height, width) = point, self.size
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f'point {x:g}, {y:g} is not inside the image of {width} x {height} pixels')

    def token_at(self, point: tuple[float, float], map_size: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the token of a map (h, w) at a point x, y of the image."""
        (x, y), (height, width), (h, w) = point, self.covered_size(map_size), map_size
        return min(int(y / height * h), h - 1), min(int(x / width * w), w - 1)


class FeatureMap(NamedTuple):
    """What a part of a model returned.

    Args:
        source: ``'backbone'``, ``'neck'`` or, of a classifier's backbone that returns no maps, ``'block 3'``.
        output: Map (B, C, h, w), or tokens (B, N, C) of which the last h·w form a map.
        size: (h, w).
    """

    source: str
    output: Tensor
    size: tuple[int, int]

    def to_map(self, x: Tensor) -> Tensor:
        """``output``, or a gradient of its shape, as a map (B, C, h, w)."""
        return x if x.ndim == 4 else tokens_to_map(x[:, -self.size[0] * self.size[1] :], self.size)

    @property
    def map(self) -> Tensor:
        """(B, C, h, w)."""
        return self.to_map(self.output)


def view(predictor: 'Predictor', image: Any) -> View:
    """Prepare an image, and put the model into evaluation mode, in case somebody has trained it in between.

    Args:
        predictor: From :func:`xvit_det.load`.
        image: As :meth:`xvit_det.inference.Predictor.predict` takes it.

    Raises:
        InputError: It cannot be read or prepared.
    """
    predictor.model.eval()
    prepared = predictor.prepare(image)
    pixels, sample = prepared['inputs'], prepared['data_samples']
    seen, given = tuple(pixels.shape[-2:]), tuple(sample.ori_shape)
    x_scale, y_scale = np.broadcast_to(sample.metainfo.get('scale_factor', 1.0), 2)
    is_whole = abs(given[0] * y_scale - seen[0]) <= 1 and abs(given[1] * x_scale - seen[1]) <= 1
    batch = predictor.model.data_preprocessor(dict(inputs=[pixels], data_samples=[sample]), False)
    pixels = pixels.permute(1, 2, 0).clamp(0, 255).byte().cpu().numpy()  # (3, h, w) -> (h, w, 3)
    return View(pixels if predictor.takes_rgb else pixels[..., ::-1], given if is_whole else seen, batch)


@contextmanager
def record_maps(model: nn.Module) -> Iterator[list[FeatureMap]]:
    """Within this context, record the maps of a model's backbone and neck.

    Args:
        model: A detector, classifier or segmentor of OpenMMLab.

    Yields:
        The maps, in the order in which they are computed.

    Raises:
        InputError: The model has no backbone, or uses it several times for one image.
    """
    backbone, neck = getattr(model, 'backbone', None), getattr(model, 'neck', None)
    if not isinstance(backbone, nn.Module):
        raise InputError(f'{type(model).__name__} has no part with the name backbone')
    parts: dict[str, nn.Module] = dict(backbone=backbone)
    if isinstance(neck, nn.Module):
        parts['neck'] = neck
    if isinstance(backbone, Backbone) and backbone.out_type in ('cls_token', 'avg_featmap'):
        blocks: Any = backbone.blocks
        parts = {f'block {i}': block for i, block in enumerate(blocks)}
    maps: list[FeatureMap] = []

    def record(source: str, args: tuple, output: Any) -> None:
        if any(known.source == source for known in maps):
            raise InputError(f'{type(model).__name__} uses its {source} several times for one image, such as for crops')
        for x in [output] if isinstance(output, Tensor) else output:
            if isinstance(x, Tensor) and x.ndim in (3, 4):
                h, w = x.shape[-2:] if x.ndim == 4 else args[1]
                maps.append(FeatureMap(source, x, (h, w)))

    hooks = [
        part.register_forward_hook(lambda _, args, output, source=source: record(source, args, output))
        for source, part in parts.items()
    ]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def feature_maps(predictor: 'Predictor', image: Any) -> list[FeatureMap]:
    """The maps of a model's backbone and neck for an image.

    Args:
        predictor: From :func:`xvit_det.load`.
        image: As :meth:`xvit_det.inference.Predictor.predict` takes it.

    Returns:
        Those of the backbone, then those of the neck. A backbone that returns vectors instead, in a classifier, gives
        the tokens after some of its blocks: four from the first to the last.

    Raises:
        InputError: The image cannot be read, or the model has no backbone that returns maps.
    """
    return extract_maps(predictor, view(predictor, image).batch['inputs'])


def extract_maps(predictor: 'Predictor', inputs: Tensor) -> list[FeatureMap]:
    """:func:`feature_maps` of prepared images (1, 3, H, W), with their graph where gradients are enabled."""
    with record_maps(predictor.model) as maps:
        predictor.model.extract_feat(inputs)
    if not maps:
        raise InputError(f'{type(predictor.model.backbone).__name__} returns no maps')
    blocks = sum(known.source.startswith('block') for known in maps)
    return [maps[-1 - (blocks - 1) * i // 3] for i in (3, 2, 1, 0)] if blocks > 4 else maps


def principal_colours(x: Tensor) -> np.ndarray:
    """The first three principal components of a map's channels as red, green and blue.

    Args:
        x: (C, h, w).

    Returns:
        (h, w, 3) from 0 to 1, each component from its 1st to its 99th percentile.
    """
    tokens = x.flatten(1).T.double()  # (C, h, w) -> (N, C)
    tokens = tokens - tokens.mean(dim=0)
    _, axes = torch.linalg.eigh(tokens.T @ tokens)  # ascending
    axes = axes[:, -3:].flip(1)  # (C, 3)
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()  # eigenvectors have no sign: choose one
    colours = tokens @ axes
    low, high = colours.quantile(0.01, dim=0), colours.quantile(0.99, dim=0)
    colours = ((colours - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    missing = colours.new_zeros(len(colours), 3 - colours.shape[1])
    return torch.cat((colours, missing), dim=1).unflatten(0, tuple(x.shape[-2:])).cpu().numpy()  # (N, 3) -> (h, w, 3)
