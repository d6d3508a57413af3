"""The models that are compared, by short names: bare backbones that make feature maps, without head or pyramid.

Peers are mmpretrain's, in their standard architecture and without weights. All do the work that a detector's backbone
does, no more: XCiT is built without its class attention, whose result the maps do not contain (mmpretrain computes it
all the same), and only the last map is asked for. DeiT keeps its class token and runs with PyTorch's fused attention.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from xvit_det.backbones import XViT
from xvit_det.config.options import find_class
from xvit_det.errors import InputError, suggest
from xvit_det.hub import find_config, list_models
from xvit_det.signatures import constructor_arguments

Size = tuple[int, int]

VIX_MIXERS = {
    'vit': dict(type='softmax'),
    'vip': dict(type='performer'),
    'vil': dict(type='linformer'),
    'vin': dict(type='nystrom', landmarks=64),
    'fnet': dict(type='fourier'),
}
OURS = {
    **{f'xvit_{arch[0]}': dict(type='XViT', arch=arch) for arch in XViT.arch_zoo},
    **{f'{name}_s': dict(type='ViX', arch='small', mixer=mixer) for name, mixer in VIX_MIXERS.items()},
    **{
        f'hybrid_{name}_s': dict(type='ViX', arch='small', mixer=mixer, stem='deep_conv')
        for name, mixer in VIX_MIXERS.items()
    },
    'ccn_14': dict(type='CCX', arch='cct_14', mixer=VIX_MIXERS['vin']),
    'cvn_13': dict(type='CvX', arch='cvt_13', mixer=VIX_MIXERS['vin']),
    'pin_s': dict(type='PiX', arch='small', stem='overlap', patch_size=8, mixer=VIX_MIXERS['vin']),
    'levin_256': dict(type='LeViX', arch='levit_256', mixer=VIX_MIXERS['vin']),
}


def _xcit(embed_dims: int, depth: int, num_heads: int) -> dict:
    return dict(
        type='XCiT',
        patch_size=16,
        embed_dims=embed_dims,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=4,
        qkv_bias=True,
        layer_scale_init_value=1.0,
        cls_attn_layers=0,
        out_type='featmap',
    )


def _deit(arch: str) -> dict:
    return dict(type='VisionTransformer', arch=arch, out_type='featmap')


def _swin(arch: str) -> dict:
    # Maps smaller than a window, which only tiny images have, are padded instead of refused.
    return dict(type='SwinTransformer', arch=arch, pad_small_map=True)


PEERS = {
    'xcit_t12': _xcit(192, 12, 4),
    'xcit_s12': _xcit(384, 12, 8),
    'xcit_s24': _xcit(384, 24, 8),
    'xcit_m24': _xcit(512, 24, 8),
    'deit_t': _deit('deit-tiny'),
    'deit_s': _deit('deit-small'),
    'deit_b': _deit('deit-base'),
    'swin_t': _swin('tiny'),
    'swin_s': _swin('small'),
    'swin_b': _swin('base'),
    'resnet50': dict(type='ResNet', depth=50),
    'resnet101': dict(type='ResNet', depth=101),
}

# mmpretrain computes XCiT's position code and Swin's window masks in fp32, whatever dtype the weights have, and stops
# where the two meet: class of a module -> its part whose input is brought to the weights' dtype.
PARTS_GIVEN_FP32 = {'PositionalEncodingFourier': 'token_projection', 'WindowMSA': 'softmax'}


class NotPossible(Exception):
    """A case that does not exist, such as a peer without ``with_cp``; the message says why. It is left out."""


def parse_size(text: str) -> Size:
    """Height and width from ``224`` or ``800x1344``.

    Raises:
        InputError: Anything else.
    """
    sides = text.split('x')
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise InputError(f'size {text!r} is neither a side such as 224 nor a height and width such as 800x1344')
    return int(sides[0]), int(sides[-1])


def size_name(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f'{size[0]}x{size[1]}'


def check_name(name: str) -> None:
    """Check a name before anything is measured.

    Raises:
        InputError: Neither a short name nor a config; the message lists the close ones.
    """
    if name in OURS or name in PEERS:
        return
    try:
        find_config(name)
    except InputError:
        choices = [*OURS, *PEERS, *list_models()]
        raise InputError(f'no model or config {name!r}; {suggest(name, choices)}') from None


def build(name: str, size: Size, **options: Any) -> nn.Module:
    """A backbone with random weights.

    Args:
        name: A short name (``OURS``, ``PEERS``), or a config's name or path, whose backbone is built as it says there.
        size: Height and width in pixels; position tables and the like are built for it.
        **options: Arguments of the backbone, such as ``with_cp=True``.

    Raises:
        InputError: No such model, or a config without a backbone.
        NotPossible: The model cannot be built for this size or does not take an option.
    """
    check_name(name)
    if name in OURS:
        config, scope = dict(OURS[name], out_type='featmap', out_indices=-1), None
    elif name in PEERS:
        config, scope = dict(PEERS[name]), 'mmpretrain'
        _import_peers()
    else:
        config, scope = _config_backbone(name)
    known = constructor_arguments(find_class(config['type'], scope))
    for option in options:
        if known is not None and option not in known:
            raise NotPossible(f'{name} ({config["type"]}) has no option {option}')
    if known and 'img_size' in known and (name in OURS or name in PEERS):
        config['img_size'] = size
    try:
        with _quietly():
            return MODELS.build({**config, **options, '_scope_': scope} if scope else {**config, **options})
    except (AssertionError, ValueError) as error:
        raise NotPossible(f'{name} cannot be built for size {size_name(size)}: {error}') from error


def _import_peers() -> None:
    try:
        with _quietly():
            import_module('mmpretrain.models')
    except ImportError as error:
        raise InputError(f'the peers {", ".join(PEERS)} come from mmpretrain, which is not usable: {error}') from error


def _config_backbone(name: str) -> tuple[dict, str | None]:
    cfg = Config.fromfile(find_config(name))
    if 'backbone' not in cfg.get('model', {}):
        raise InputError(f'config {name} has no model.backbone to measure')
    return {**cfg.model.backbone, 'init_cfg': None}, cfg.get('default_scope')


def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Give a model, built by :func:`build`, weights of a dtype, and let it run on images of that dtype."""
    model.to(dtype)
    for module in model.modules():
        part = PARTS_GIVEN_FP32.get(type(module).__name__)
        if part and dtype != torch.float32:
            getattr(module, part).register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without OpenMMLab's remarks."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
