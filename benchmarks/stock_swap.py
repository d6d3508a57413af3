"""The rules of docs/swap.md that put a backbone of ours into any of MMDetection's configs."""

from collections.abc import Callable
from typing import Any

from mmengine.config import ConfigDict

STRIDES = (4, 8, 16, 32)

# Configs for which the rules are not enough: what to set beside, for maps of so many channels.
MORE: dict[str, Callable[[int], dict]] = {
    # An hourglass returns two maps of stride 4.
    'centripetalnet': lambda width: {'backbone.out_strides': 4, 'bbox_head.num_feat_levels': 1},
    'cornernet': lambda width: {'backbone.out_strides': 4, 'bbox_head.num_feat_levels': 1},
    # The neck reads the last three of four maps, by their numbers.
    'nas_fcos': lambda width: {
        'backbone.out_strides': STRIDES,
        'neck.in_channels': [width] * 4,
        'neck.start_level': 1,
    },
    # VGG returns maps of strides 8 and 16, which the head sees, too.
    'ssd': lambda width: {
        'backbone.out_strides': (8, 16),
        'neck.in_channels': (width, width),
        'neck.out_channels': (width, width, 512, 256, 256, 256),
        'bbox_head.in_channels': (width, width, 512, 256, 256, 256),
    },
}
# Parameters of the backbone that these detectors do not use, by the start of their names: the map of stride 4.
UNUSED = {'nas_fcos': 'pyramid.levels.0.'}


def detector(model: ConfigDict) -> ConfigDict:
    """The part of a model that holds the backbone: trackers and semi-supervised models wrap a detector."""
    return model.detector if 'detector' in model else model


def swap(family: str, model: ConfigDict, backbone: dict, width: int) -> dict[str, Any]:
    """Replace the backbone by ours, in place.

    Args:
        family: Name of the config's folder.
        model: The model of the config.
        backbone: Ours, without its outputs.
        width: Channels of its maps.

    Returns:
        What was set beside the backbone and ``in_channels``.
    """
    part = detector(model)
    takes = _who_takes_the_maps(part)
    one = isinstance(takes.in_channels, int)
    # 1. The maps that are used: one for each number in in_channels, from start_level on.
    used = 1 if one else len(takes.in_channels) - takes.get('start_level', 0)
    settings: dict[str, Any] = {}
    # 2. Fewer than four are the last ones.
    if used < 4:
        settings['backbone.out_strides'] = STRIDES[-used:]
    # 3. All of them are used, and all have the same width.
    takes.in_channels = width if one else [width] * used
    if takes.get('start_level', 0):
        settings['neck.start_level'] = 0
    if family in MORE:
        settings |= MORE[family](width)
    part.backbone = ConfigDict(backbone)
    for key, value in settings.items():
        name, argument = key.split('.')
        holder = part[name][0] if isinstance(part[name], list) else part[name]
        holder[argument] = value
    return settings


def _who_takes_the_maps(part: ConfigDict) -> ConfigDict:
    """The first neck or, without one, the head that tells the channels of its maps."""
    neck = part.get('neck')
    if neck:
        return neck[0] if isinstance(neck, list) else neck
    return next(value for key, value in part.items() if key.endswith('_head') and 'in_channels' in value)
