"""The maps that the heads of a model get, on PyTorch's meta device."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from xvit_det.errors import InputError

SIDE = 1024  # pixels: a multiple of all strides up to that of P10


class NotOnMetaDevice(Exception):
    """The backbone's mixer takes images of another size only, or the neck has an op that is not available."""


@torch.no_grad()
def feature_maps(model: Any, path: str) -> Sequence[Tensor]:
    """The maps that the heads get for a square image.

    Args:
        model: What has a ``backbone`` of ours and perhaps a ``neck``, on the meta device.
        path: Where it stands in the config.

    Raises:
        InputError: The neck does not accept the backbone's maps.
        NotOnMetaDevice: They cannot be found this way.
    """
    try:
        maps = model.backbone(torch.empty(1, 3, SIDE, SIDE, device='meta'))
    except InputError as error:
        raise NotOnMetaDevice from error
    if getattr(model, 'neck', None) is None:
        return maps
    try:
        maps = model.neck(maps)
    except NotImplementedError as error:
        raise NotOnMetaDevice from error
    except (AssertionError, IndexError, RuntimeError, TypeError) as error:
        channels, strides = list(model.backbone.out_channels), list(model.backbone.out_strides)
        raise InputError(
            f'{path}.neck ({type(model.neck).__name__}) does not accept the maps of the backbone, which have '
            f'{channels} channels at strides {strides}: set its in_channels to these'
        ) from error
    return [maps] if isinstance(maps, Tensor) else maps


def strides_of(maps: Iterable[Tensor]) -> list[int]:
    """The strides of maps from :func:`feature_maps`."""
    return [SIDE // m.shape[-1] for m in maps]
