"""Layer-wise learning rates: the deeper a backbone's layer, the closer its rate to the head's.

A parameter of layer ``i`` of ``n`` trains at ``lr * rate ** (n - 1 - i)``: the stem (layer 0) slowest, the backbone's
end and everything behind the backbone at the full rate. BEiT introduced it for fine-tuning of pretrained backbones.
"""

import math
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn

NORM_LAYERS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
KNOWN_KEYS = {
    'layer_decay_rate',
    'norm_decay_mult',
    'bias_decay_mult',
    'flat_decay_mult',
    'custom_keys',
    'bypass_duplicate',
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Optimizer groups with a learning rate for each layer, for detectors and classifiers alike.

    The model's ``backbone`` must have ``get_layer_depth(param_name, prefix) -> (layer_id, num_layers)``, the last
    layer for names without the prefix. The names (relative to the backbone) that its ``no_weight_decay()`` lists, if it
    has one, get no weight decay.

    Use it as ``optim_wrapper=dict(constructor='LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(...), ...)``
    with these keys in ``paramwise_cfg``; for weight decay the first that applies counts:

    - ``layer_decay_rate`` (float): the rate above; by default 1, the same learning rate for all.
    - ``custom_keys`` (dict): ``{part of a name: dict(lr_mult=, decay_mult=, other settings of the group)}``; the
      longest matching part counts, and ``lr_mult`` multiplies the layer's learning rate.
    - ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult`` (float): factors of the weight decay for norm
      layers, biases, and all other one-dimensional parameters.
    - ``bypass_duplicate``: accepted and not needed; a parameter used in two places is always taken once.

    Raises:
        ValueError: a key of ``paramwise_cfg`` is not among these.
        TypeError: the model has no backbone, or the backbone no ``get_layer_depth``.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        if unknown := sorted(set(self.paramwise_cfg) - KNOWN_KEYS):
            raise ValueError(f'unknown keys {unknown} in paramwise_cfg; known are {sorted(KNOWN_KEYS)}')

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Append the groups of ``module``, a whole model, to ``params``; parameters with equal settings share one."""
        backbone = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise TypeError(
                f'layer-wise learning rates need a backbone with get_layer_depth(), '
                f'but that of {type(module).__name__} is {type(backbone).__name__}'
            )
        in_norm = {id(p) for m in module.modules() if isinstance(m, NORM_LAYERS) for p in m.parameters()}
        undecayed = {f'backbone.{name}' for name in getattr(backbone, 'no_weight_decay', set)()}
        groups: dict[str, dict] = {}
        for name, param in module.named_parameters():  # names a shared parameter once
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
        """The settings of the longest of ``custom_keys`` found in ``name``, as a copy; empty if none is."""
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
