"""Layer-wise learning-rate decay: the earlier a backbone's layer, the smaller its learning rate.

A parameter of layer ``i`` of ``n`` trains at ``lr * rate ** (n - 1 - i)``: the stem (layer 0) slowest, the last layer
and everything outside the backbone at the full rate. Introduced by BEiT for fine-tuning pretrained backbones.
"""

import math
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn

from xvit_det.errors import InputError, suggest

NORM_LAYERS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
KNOWN_KEYS = (
    'layer_decay_rate',
    'norm_decay_mult',
    'bias_decay_mult',
    'flat_decay_mult',
    'custom_keys',
    'bypass_duplicate',
)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """One optimizer group per learning rate and weight decay, for detectors and classifiers alike.

    mmpretrain's ``LearningRateDecayOptimWrapperConstructor`` asks the whole model for a layer's depth, which detectors
    do not know, and ignores ``lr_mult``. This one asks ``model.backbone``, which must have
    ``get_layer_depth(param_name, prefix) -> (layer_id, num_layers)``. Parameters listed by the backbone's
    ``no_weight_decay()``, if it has one, get no weight decay.

    Use it as ``optim_wrapper=dict(constructor='LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(...), ...)``
    with these keys in ``paramwise_cfg``; of the settings for weight decay the first that applies counts:

    - ``layer_decay_rate`` (float): The rate above; default 1, the same learning rate for all layers.
    - ``custom_keys`` (dict): ``{part of a name: dict(lr_mult=, decay_mult=, other group settings)}``; the longest
      matching part counts, and ``lr_mult`` multiplies the layer's learning rate.
    - ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult`` (float): Multipliers of the weight decay of norm
      layers, biases, and all other one-dimensional parameters.
    - ``bypass_duplicate``: Accepted for compatibility; shared parameters are always added once.

    Raises:
        InputError: An unknown key in ``paramwise_cfg``, or a model whose backbone has no ``get_layer_depth``.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        for key in self.paramwise_cfg:
            if key not in KNOWN_KEYS:
                raise InputError(f'paramwise_cfg has no key {key!r}; {suggest(key, KNOWN_KEYS)}')

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Append the groups of a whole model to ``params``, one for all parameters with equal settings."""
        backbone = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise InputError(
                f'layer-wise learning rates need a backbone with get_layer_depth(), '
                f'but that of {type(module).__name__} is {type(backbone).__name__}'
            )
        in_norm = {id(p) for m in module.modules() if isinstance(m, NORM_LAYERS) for p in m.parameters()}
        undecayed = {f'backbone.{name}' for name in getattr(backbone, 'no_weight_decay', set)()}
        groups: dict[str, dict] = {}
        for name, param in module.named_parameters():  # yields a shared parameter once
            if not param.requires_grad:
                continue
            layer_id, num_layers = backbone.get_layer_depth(name, 'backbone.')  # outside the backbone: the last
            custom = self._custom_settings(name)
            scale = self.paramwise_cfg.get('layer_decay_rate', 1.0) ** (num_layers - 1 - layer_id)
            settings = {'lr': self.base_lr * scale * custom.pop('lr_mult', 1.0)}
            if self.base_wd is not None:
                if 'decay_mult' in custom:
                    mult = custom.pop('decay_mult')
                else:
                    mult = 0.0 if name in undecayed else self._decay_mult(name, param, id(param) in in_norm)
                settings['weight_decay'] = self.base_wd * mult
            settings |= {'layer_id': layer_id, 'lr_scale': scale, **custom}
            groups.setdefault(repr(settings), {'params': [], **settings})['params'].append(param)
        params.extend(groups.values())
        print_log(_summary(params), logger='current')

    def _custom_settings(self, name: str) -> dict:
        """A copy of the settings of the longest of ``custom_keys`` found in ``name``; empty if there is none."""
        custom_keys = self.paramwise_cfg.get('custom_keys', {})
        found = [key for key in sorted(custom_keys) if key in name]
        return dict(custom_keys[max(found, key=len)]) if found else {}

    def _decay_mult(self, name: str, param: nn.Parameter, in_norm: bool) -> float:
        rules = {
            'norm_decay_mult': in_norm,
            'bias_decay_mult': name.rsplit('.')[-1] == 'bias' and not in_norm,
            'flat_decay_mult': param.ndim == 1,
        }
        return next((self.paramwise_cfg[key] for key, fits in rules.items() if fits and key in self.paramwise_cfg), 1.0)


def _summary(groups: list[dict]) -> str:
    rates = [group['lr'] for group in groups]
    count = sum(math.prod(p.shape) for group in groups for p in group['params'])
    return (
        f'Layer-wise learning rates: {len(groups)} groups, {count:,} parameters, '
        f'learning rate {min(rates):.3g} to {max(rates):.3g}.'
    )
