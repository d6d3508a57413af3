"""Check that the heads of one of mmseg's models get the maps that they are made for."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

from mmengine.config import Config, ConfigDict
from torch import Tensor

from xvit_det.backbones import Backbone
from xvit_det.config.feature_maps import NotOnMetaDevice, feature_maps, strides_of
from xvit_det.config.shapes import shapes_or_none
from xvit_det.errors import InputError


def check_segmentor(cfg: Config) -> None:
    """Compare what each head selects (``in_index``) and is made for with the maps of the backbone and neck.

    Raises:
        InputError: They differ, or the neck does not accept the backbone's maps.
    """
    backbone, neck = (shapes_or_none(cfg.model.get(part), 'mmseg') for part in ('backbone', 'neck'))
    if not isinstance(backbone, Backbone) or (neck is None and cfg.model.get('neck')):
        return
    try:
        maps = feature_maps(SimpleNamespace(backbone=backbone.eval(), neck=neck), 'model')
    except NotOnMetaDevice:
        return
    for name, head in _heads(cfg.model):
        _check_head(name, head, maps)


def _heads(model: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key) or []
        if isinstance(heads, dict):
            yield key, heads
        else:
            yield from ((f'{key}.{i}', head) for i, head in enumerate(heads))


def _check_head(name: str, head: ConfigDict, maps: Sequence[Tensor]) -> None:
    wanted = head.get('in_channels')
    if wanted is None:
        return
    several = not isinstance(wanted, int)
    channels = list(wanted) if several else [wanted]
    index = head.get('in_index', list(range(len(channels))) if several else -1)
    indices = [index] if isinstance(index, int) else list(index)
    absent = [i for i in indices if not -len(maps) <= i < len(maps)]
    if absent:
        raise InputError(
            f'model.{name} selects map {absent[0]} (in_index), but there are {len(maps)} maps, 0 to {len(maps) - 1}, '
            f'of strides {strides_of(maps)}'
        )
    selected = [maps[i] for i in indices]
    given, strides = [m.shape[1] for m in selected], strides_of(selected)
    if given != channels:
        raise InputError(f'model.{name}.in_channels is {wanted}, but the maps that it gets have {given} channels')
    expected = head.get('feature_strides', head.get('strides'))  # of FPNHead; of Mask2FormerHead
    if expected is not None and list(expected) != strides:
        raise InputError(
            f'model.{name} is made for maps of strides {list(expected)}, but gets maps of strides {strides}; set '
            f"the backbone's out_strides, or those of the head"
        )
