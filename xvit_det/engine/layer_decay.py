"""Layer-wise learning-rate decay: the earlier a backbone's layer, the smaller its learning rate.

A parameter of layer ``i`` of ``n`` trains at ``lr * rate ** (n - 1 - i)``: the stem (layer 0) slowest, the last layer
and everything outside the backbone at the full rate. Introduced by BEiT for fine-tuning pretrained backbones.
"""

from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from xvit_det.errors import InputError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor with layer-wise learning-rate decay, for detectors and classifiers alike.

    mmpretrain's ``LearningRateDecayOptimWrapperConstructor`` asks the whole model for a layer's depth, which detectors
    do not know. This one asks ``model.backbone``, which must have
    ``get_layer_depth(param_name, prefix) -> (layer_id, num_layers)``. The parameters that the backbone's
    ``no_weight_decay()`` lists, if it has one, get no weight decay unless ``custom_keys`` sets their ``decay_mult``.

    Use it as ``optim_wrapper=dict(constructor='LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(...), ...)`` with
    ``layer_decay_rate`` in ``paramwise_cfg``. Its other keys are those of ``DefaultOptimWrapperConstructor``; an
    ``lr_mult`` multiplies the layer's learning rate. Shared parameters are added once.

    Raises:
        InputError: No ``layer_decay_rate``, or a model whose backbone has no ``get_layer_depth``.
    """

    paramwise_cfg: dict

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        if 'layer_decay_rate' not in self.paramwise_cfg:
            raise InputError(f'paramwise_cfg needs layer_decay_rate, but has only {sorted(self.paramwise_cfg)}')
        self.paramwise_cfg = {'bypass_duplicate': True, **self.paramwise_cfg}

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Append one group per parameter of a module to ``params``; the outermost call is for the whole model."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:
            return
        backbone: Any = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise InputError(
                f'layer-wise learning rates need a backbone with get_layer_depth(), '
                f'but that of {type(module).__name__} is {type(backbone).__name__}'
            )
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        undecayed = {f'backbone.{name}' for name in getattr(backbone, 'no_weight_decay', set)()}
        for group in params:
            name = names[id(group['params'][0])]
            layer_id, num_layers = backbone.get_layer_depth(name, 'backbone.')  # outside the backbone: the last
            rate = self.paramwise_cfg['layer_decay_rate'] ** (num_layers - 1 - layer_id)
            group['lr'] = group.get('lr', self.base_lr) * rate
            if name in undecayed and 'decay_mult' not in group:
                group['weight_decay'] = 0.0
        rates = [group['lr'] for group in params]
        print_log(f'Layer-wise learning rates: {min(rates):.3g} to {max(rates):.3g}', logger='current')
