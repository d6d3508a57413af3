"""Build the compared models: bare backbones that return feature maps, without head or pyramid.

Peers come from mmpretrain, with random weights. All do only the work of a detector's backbone: XCiT is built without
class attention, which does not contribute to the maps (mmpretrain would compute it anyway), and only the last map is
returned. DeiT keeps its class token and uses PyTorch's fused attention.
"""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from xvit_det.benchmark.cases import Size, size_name
from xvit_det.benchmark.zoo import OURS, PEERS
from xvit_det.compat.quiet import import_quietly, without_remarks
from xvit_det.config.options import find_class
from xvit_det.errors import InputError, suggest
from xvit_det.hub import find_config, list_models
from xvit_det.signatures import constructor_arguments

# mmpretrain computes XCiT's position encoding and Swin's window masks in fp32 whatever the weights' dtype, and fails
# where the two meet. Module class -> the submodule whose input is cast to the weights' dtype.
PARTS_GIVEN_FP32 = {'PositionalEncodingFourier': 'token_projection', 'WindowMSA': 'softmax'}


class NotPossible(Exception):
    """A case that is skipped because it does not exist, such as a peer without ``with_cp``; the message says why."""


def check_name(name: str) -> None:
    """Reject an unknown name before anything is measured.

    Raises:
        InputError: Neither a short name nor a config; the message lists close names.
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
        name: A short name (``OURS``, ``PEERS``), or a config's name or path, whose backbone is built as configured.
        size: Height and width in pixels, for which position tables and the like are built.
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
        with without_remarks():
            return MODELS.build({**config, **options, '_scope_': scope} if scope else {**config, **options})
    except (AssertionError, ValueError) as error:
        raise NotPossible(f'{name} cannot be built for size {size_name(size)}: {error}') from error


def _import_peers() -> None:
    try:
        import_quietly('mmpretrain')
    except ImportError as error:
        raise InputError(f'the peers {", ".join(PEERS)} come from mmpretrain, which is not usable: {error}') from error


def _config_backbone(name: str) -> tuple[dict, str | None]:
    cfg = Config.fromfile(find_config(name))
    if 'backbone' not in cfg.get('model', {}):
        raise InputError(f'config {name} has no model.backbone to measure')
    return {**cfg.model.backbone, 'init_cfg': None}, cfg.get('default_scope')


def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights of a model from :func:`build`, so that it accepts images of this dtype."""
    model.to(dtype)
    for module in model.modules():
        part = PARTS_GIVEN_FP32.get(type(module).__name__)
        if part and dtype != torch.float32:
            getattr(module, part).register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))
