"""How images are resized before a model sees them, as data that travels with an exported model."""

from collections.abc import Mapping, Sequence
from typing import Any

from xvit_det.errors import InputError
from xvit_det.signatures import type_name

_SILENT = ('Load', 'Pack', 'Collect', 'ToTensor')
_FILTERS = {'cv2': {'bilinear'}, 'pillow': {'nearest', 'bilinear', 'bicubic', 'lanczos'}}


def input_steps(pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The steps of a config's test pipeline that change an image.

    Returns:
        Dicts with the key ``type``: ``'Resize'`` with ``scale`` (width, height) and ``keep_ratio``, or
        ``scale_factor``; ``'ResizeEdge'`` with ``scale`` and ``edge``; ``'CenterCrop'`` with ``crop_size`` (width,
        height). The first two have ``backend`` and ``interpolation``.

    Raises:
        InputError: A step that only the training framework has.
    """
    return [described for step in pipeline if (described := _describe(step))]


def _describe(step: Mapping[str, Any]) -> dict[str, Any] | None:
    name = type_name(step)
    if name.startswith(_SILENT):
        return None
    if name in ('Resize', 'FixScaleResize') and step.get('scale_factor') == 1.0:
        return None
    filters = dict(backend=step.get('backend', 'cv2'), interpolation=step.get('interpolation', 'bilinear'))
    if filters['interpolation'] not in _FILTERS.get(filters['backend'], ()):
        raise InputError(f'export knows no resizing by {filters["backend"]} with {filters["interpolation"]}')
    if name == 'Resize' and 'scale' in step:
        scale = step['scale']
        width, height = (scale, scale) if isinstance(scale, int) else scale
        return dict(type=name, scale=[int(width), int(height)], keep_ratio=bool(step.get('keep_ratio')), **filters)
    if name == 'ResizeEdge':
        return dict(type=name, scale=int(step['scale']), edge=step.get('edge', 'short'), **filters)
    if name == 'CenterCrop' and not step.get('auto_pad'):
        size = step['crop_size']
        width, height = (size, size) if isinstance(size, int) else size
        return dict(type=name, crop_size=[int(width), int(height)])
    raise InputError(f'export does not know the step {dict(step)} of the test pipeline')
