"""X-ViT in Hugging Face transformers: a config, a backbone for its detectors and segmentors, and an image classifier.

Importing this module registers them with ``AutoConfig``, ``AutoBackbone`` and ``AutoModelForImageClassification`` under
the model type ``xvit``. The weights have the names of our own checkpoints: ``backbone.`` and those of
:class:`xvit_det.XViT`.
"""

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput, ImageClassifierOutputWithNoAttention
from transformers.utils import can_return_tuple

from xvit_det.backbones import XViT
from xvit_det.backbones.base import resolve_arch
from xvit_det.errors import InputError

STRIDES = (4, 8, 16, 32)  # of stage1 to stage4


class XViTConfig(BackboneConfigMixin, PreTrainedConfig):
    """What an X-ViT is built from.

    Args:
        arch: As for :class:`xvit_det.XViT`: the name of a size, or a dict.
        mixer: As for :class:`xvit_det.XViT`: the name of a token mixer, or a dict with options.
        patch_size: Stride of the tokens in pixels: 16, or 8.
        num_channels: Channels of the image.
        drop_path_rate: Probability of skipping a residual branch in training.
        layer_scale: Initial value of the affines' alpha; ``None``: that of the arch.
        image_size: Side in pixels of the images that the model was trained on; it takes any other size, too.
        out_features, out_indices: Maps of the backbone, by name (``'stage1'`` to ``'stage4'``, of strides 4, 8, 16 and
            32) or number (0 to 3). Default: the last.
        **kwargs: Of ``PreTrainedConfig``, such as ``num_labels`` and ``id2label``.
    """

    model_type = 'xvit'

    arch: str | dict = 'small'
    mixer: str | dict = 'xnorm'
    patch_size: int = 16
    num_channels: int = 3
    drop_path_rate: float = 0.0
    layer_scale: float | None = None
    image_size: int = 224
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.stage_names = [f'stage{number}' for number in range(1, len(STRIDES) + 1)]
        self.set_output_features_output_indices(kwargs.pop('out_features', None), kwargs.pop('out_indices', None))
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Channels of the tokens and of every map."""
        arch = self.arch
        if isinstance(arch, str):
            arch = resolve_arch(arch, XViT.arch_zoo, XViT.arch_aliases)
        return arch['embed_dims']


class XViTPreTrainedModel(PreTrainedModel):
    """What both models share: an :class:`xvit_det.XViT` in ``backbone``."""

    config_class = XViTConfig
    base_model_prefix = 'xvit'
    main_input_name = 'pixel_values'
    supports_gradient_checkpointing = True
    backbone: XViT

    def _build(self, **options: Any) -> None:
        config = self.config
        names = ('arch', 'mixer', 'patch_size', 'drop_path_rate', 'layer_scale')
        settings = {name: getattr(config, name) for name in names}
        self.backbone = XViT(in_channels=config.num_channels, **settings, **options)
        self.built_without_memory = next(self.parameters()).is_meta

    def _init_weights(self, module: nn.Module) -> None:
        """Leave a module as its constructor made it."""

    @torch.no_grad()
    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        """Give what a checkpoint did not hold the values of a new model; called for every module, and last for this.

        ``from_pretrained`` builds the model without memory, where constructors have nothing to fill.
        """
        if module is not self or not self.built_without_memory:
            return
        missing = {
            name: tensor
            for name, tensor in (*self.named_parameters(), *self.named_buffers())
            if not getattr(tensor, '_is_hf_initialized', False)
        }
        if missing:
            with torch.device('cpu'):
                new = type(self)(self.config)
            values = {**dict(new.named_parameters()), **dict(new.named_buffers())}
            for name, tensor in missing.items():
                tensor.copy_(values[name])

    def _set_gradient_checkpointing(self, enable: bool = True, **kwargs: Any) -> None:
        self.backbone.with_cp = enable


class XViTBackbone(BackboneMixin, XViTPreTrainedModel):
    """The pyramid of :class:`xvit_det.XViT` as a backbone for the detectors and segmentors of transformers.

    Raises:
        InputError: A value of the config that :class:`xvit_det.XViT` does not take.
    """

    has_attentions = False

    def __init__(self, config: XViTConfig) -> None:
        super().__init__(config)
        self._build(out_strides=[STRIDES[self.stage_names.index(name)] for name in self.out_features])
        self.num_features = [config.hidden_size] * len(STRIDES)
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor, output_hidden_states: bool | None = None, **kwargs: Any) -> BackboneOutput:
        """Images (B, C, H, W) -> the maps (B, d, h, w) of ``out_features``.

        Args:
            pixel_values: Images (B, C, H, W) of any size.
            output_hidden_states: Give the maps as ``hidden_states``, too.
            **kwargs: ``return_dict``; attention maps are not computed, so that ``output_attentions`` is without effect.
        """
        maps = self.backbone(pixel_values)
        return BackboneOutput(feature_maps=maps, hidden_states=maps if output_hidden_states else None)


class XViTForImageClassification(XViTPreTrainedModel):
    """:class:`xvit_det.XViT` with a linear classifier on its class token.

    Raises:
        InputError: A value of the config that :class:`xvit_det.XViT` does not take.
    """

    def __init__(self, config: XViTConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self._build(out_type='cls_token')
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.register_load_state_dict_pre_hook(_own_names)
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any
    ) -> ImageClassifierOutputWithNoAttention:
        """Images (B, C, H, W) -> logits (B, num_labels), and with ``labels`` (B,) the loss.

        Raises:
            InputError: Hidden states are asked for.
        """
        if kwargs.get('output_hidden_states'):
            raise InputError('XViTForImageClassification gives no hidden states; XViTBackbone gives maps')
        (token,) = self.backbone(pixel_values)  # (B, d)
        logits = self.classifier(token)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


def _own_names(module: nn.Module, weights: MutableMapping[str, Tensor], prefix: str, *args: Any) -> None:
    """Take the classifier of an ImageNet config's checkpoint."""
    for part in ('weight', 'bias'):
        if f'{prefix}head.fc.{part}' in weights:
            weights[f'{prefix}classifier.{part}'] = weights.pop(f'{prefix}head.fc.{part}')


AutoConfig.register('xvit', XViTConfig)
AutoBackbone.register(XViTConfig, XViTBackbone)
AutoModelForImageClassification.register(XViTConfig, XViTForImageClassification)
