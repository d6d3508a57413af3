"""bfloat16 for the parts of a model that stay accurate in it, and float32 for the others.

Backbone, neck and the layers of known heads compute in bfloat16. Boxes and RoIAlign stay in float32: around 1,000
pixels bfloat16 has steps of 4.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xvit_det.backbones import Backbone
from xvit_det.errors import InputError
from xvit_det.kernels import bfloat16_trial

CHOICES = ('auto', torch.float32, torch.bfloat16)
NECKS = {'FPN', 'PAFPN', 'ChannelMapper'}
# Heads that consist of layers from features to the numbers that their methods turn into boxes and masks.
HEADS = {'RPNHead', 'RetinaHead', 'FCOSHead', 'ATSSHead', 'FCNMaskHead'}
HEADS |= {'BBoxHead', 'ConvFCBBoxHead', 'Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead'}
REGIONS = {'SingleRoIExtractor', 'GenericRoIExtractor'}  # they give the heads of regions their features


def choose_dtype(model: nn.Module, dtype: torch.dtype | str) -> torch.dtype:
    """One of ``CHOICES``, with ``'auto'`` resolved by a trial on the device where the model is.

    Raises:
        InputError: There is no such choice, or the model has no part named ``backbone`` for bfloat16.
    """
    if dtype not in CHOICES:
        raise InputError(f'dtype is {dtype!r}, but must be one of {", ".join(map(repr, CHOICES))}')
    if dtype != torch.float32 and _backbone(model) is None:
        if dtype == 'auto':
            return torch.float32
        raise InputError(f'bfloat16 needs a model with a part named backbone, which {type(model).__name__} lacks')
    if isinstance(dtype, torch.dtype):
        return dtype
    device = next(model.parameters()).device.type
    native = device == 'cuda' and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native or device == 'cpu' and bfloat16_trial.is_faster() else torch.float32


def compute_in_bfloat16(model: nn.Module) -> None:
    """Let backbone, neck and heads of a model compute in bfloat16, in place; inputs and results stay in float32.

    Where one of the heads is not in ``HEADS``, it is the backbone alone, with a neck of ``NECKS``.

    Args:
        model: A backbone, or a model of OpenMMLab with ``backbone``, perhaps ``neck``, and heads.
    """
    backbone = _backbone(model)
    assert backbone is not None
    trunk, neck = [backbone], getattr(model, 'neck', None)
    if isinstance(neck, nn.Module) and type(neck).__name__ in NECKS:
        trunk.append(neck)
    rest = [] if model is backbone else [part for part in _parts(model) if part not in trunk]
    heads = [part for part in rest if type(part).__name__ in HEADS]
    regions = [part for part in rest if type(part).__name__ in REGIONS]
    if not heads or len(heads) + len(regions) < len(rest):
        heads, regions = [], []  # the others get the trunk's features in float32
    for part in trunk + heads:
        part.to(torch.bfloat16)
        _add_once(part._forward_pre_hooks, part.register_forward_pre_hook, _cast_inputs_to_bfloat16)
    for part in heads or trunk[-1:]:
        _add_once(part._forward_hooks, part.register_forward_hook, _cast_results_to_float32)
    for part in regions:
        _add_once(part._forward_pre_hooks, part.register_forward_pre_hook, _cast_inputs_to_float32)


def _backbone(model: nn.Module) -> nn.Module | None:
    return model if isinstance(model, Backbone) else getattr(model, 'backbone', None)


def _add_once(hooks: Mapping[int, Callable], register: Callable, hook: Callable) -> None:
    """Register a hook that is not among these: a backbone may have been fused alone before."""
    if hook not in hooks.values():
        register(hook)


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    """The parts of a detector between which features are passed on: those with weights, and extractors of regions."""
    for name, part in model.named_children():
        if name == 'roi_head' or isinstance(part, nn.ModuleList):
            yield from _parts(part)
        elif type(part).__name__ in REGIONS or next(part.parameters(), None) is not None:
            yield part


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors, also in lists and tuples, in another dtype."""
    if isinstance(values, Tensor):
        return values.to(dtype) if values.is_floating_point() else values
    if isinstance(values, list | tuple):
        return type(values)(_cast(value, dtype) for value in values)
    return values


# Functions of the module, so that a model can be copied and pickled.
def _cast_inputs_to_bfloat16(module: nn.Module, inputs: tuple) -> tuple:
    return _cast(inputs, torch.bfloat16)


def _cast_inputs_to_float32(module: nn.Module, inputs: tuple) -> tuple:
    return _cast(inputs, torch.float32)


def _cast_results_to_float32(module: nn.Module, inputs: tuple, results: Any) -> Any:
    return _cast(results, torch.float32)
