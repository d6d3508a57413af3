"""torchvision's detectors around our backbones: ``mask_rcnn('xvit_s', num_classes=3)``.

They are objects of torchvision's classes. They take images as a list of (3, H, W) in [0, 1] and targets as torchvision
describes them, and count the background as class 0. torchvision normalises the images, resizes them to ``min_size`` and
``max_size``, and pads a batch with zeros to its largest image, rounded up to a multiple of 32. An X-ViT that is built
by name masks this padding, so that the backbone's maps of an image do not depend on its batch. torchvision's feature
pyramid network and heads see the padding, and so do other backbones.
It finds the padding by its zeros: with ``image_mean=(0, 0, 0)`` black rows would count as padding, so build an X-ViT
without ``mask_padding`` then.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    FeaturePyramidNetwork,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from xvit_det.backbones import Backbone, XViT, load_pretrained
from xvit_det.errors import InputError

NAMES = ('xvit_t', 'xvit_s', 'xvit_m', 'xvit_b')
# What torchvision's anchors and pooling are made for; LastLevelMaxPool adds stride 64, LastLevelP6P7 64 and 128.
RCNN_STRIDES = (4, 8, 16, 32)
ONE_STAGE_STRIDES = (8, 16, 32)

Norm = Callable[[int], nn.Module]


class BackboneWithFPN(nn.Module):
    """A backbone and torchvision's feature pyramid network: what torchvision's detectors take as ``backbone``.

    Args:
        body: A backbone whose outputs are maps.
        out_channels: Channels of every map of the network.
        extra_blocks: What adds maps to the backbone's; ``None``: nothing.
        norm_layer: Makes the norm after each of the network's convolutions from their channels; ``None``: no norms.
    """

    def __init__(
        self,
        body: Backbone,
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Norm | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(list(body.out_channels), out_channels, extra_blocks, norm_layer)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Images (B, 3, H, W) -> maps (B, out_channels, h, w): ``'0'``, ``'1'``, ..., and those of the extra blocks."""
        return self.fpn(OrderedDict((str(i), maps) for i, maps in enumerate(self.body(x))))


def faster_rcnn(
    backbone: str | Backbone = 'xvit_s',
    *,
    num_classes: int | None = 91,
    weights_backbone: str | Path | None = None,
    trainable_backbone_layers: int | None = None,
    out_channels: int = 256,
    norm_layer: Norm | None = None,
    **kwargs: Any,
) -> FasterRCNN:
    """Faster R-CNN with a feature pyramid network of the strides 4 to 64.

    Args:
        backbone: One of ``NAMES``, X-ViT with the settings of our detection configs; or a backbone of any family whose
            pyramid has the strides 4, 8, 16, 32.
        num_classes: Classes, with the background; ``None`` if ``box_predictor`` is given.
        weights_backbone: Checkpoint of a classifier or detector to load into the backbone, see
            :func:`xvit_det.backbones.load_pretrained`; ``None``: initial weights.
        trainable_backbone_layers: Train this many of the backbone's last blocks, and its pyramid, only. The number of
            blocks plus one, or ``None``: all blocks and the stem.
        out_channels: Channels of the feature pyramid network.
        norm_layer: Makes the norms in that network from their channels; ``None``: no norms, as in torchvision.
        **kwargs: Arguments of ``torchvision.models.detection.FasterRCNN``, such as ``min_size`` and
            ``rpn_anchor_generator``.

    Raises:
        InputError: No such name, no pyramid of these strides, fewer than two classes, layers that the backbone does not
            have, or a checkpoint that does not fit.
    """
    return _build(
        FasterRCNN, backbone, num_classes, weights_backbone, trainable_backbone_layers, out_channels, norm_layer, kwargs
    )


def mask_rcnn(
    backbone: str | Backbone = 'xvit_s',
    *,
    num_classes: int | None = 91,
    weights_backbone: str | Path | None = None,
    trainable_backbone_layers: int | None = None,
    out_channels: int = 256,
    norm_layer: Norm | None = None,
    **kwargs: Any,
) -> MaskRCNN:
    """Mask R-CNN; ``**kwargs`` are those of torchvision's ``MaskRCNN``, the others as for :func:`faster_rcnn`."""
    return _build(
        MaskRCNN, backbone, num_classes, weights_backbone, trainable_backbone_layers, out_channels, norm_layer, kwargs
    )


def retinanet(
    backbone: str | Backbone = 'xvit_s',
    *,
    num_classes: int = 91,
    weights_backbone: str | Path | None = None,
    trainable_backbone_layers: int | None = None,
    out_channels: int = 256,
    norm_layer: Norm | None = None,
    **kwargs: Any,
) -> RetinaNet:
    """RetinaNet with a feature pyramid network of the strides 8 to 128; the backbone's are 8, 16, 32.

    ``**kwargs`` are those of torchvision's ``RetinaNet``, the others as for :func:`faster_rcnn`.
    """
    return _build(
        RetinaNet, backbone, num_classes, weights_backbone, trainable_backbone_layers, out_channels, norm_layer, kwargs
    )


def fcos(
    backbone: str | Backbone = 'xvit_s',
    *,
    num_classes: int = 91,
    weights_backbone: str | Path | None = None,
    trainable_backbone_layers: int | None = None,
    out_channels: int = 256,
    norm_layer: Norm | None = None,
    **kwargs: Any,
) -> FCOS:
    """FCOS; as :func:`retinanet`, ``**kwargs`` are those of torchvision's ``FCOS``."""
    return _build(
        FCOS, backbone, num_classes, weights_backbone, trainable_backbone_layers, out_channels, norm_layer, kwargs
    )


def _build(
    cls: Any,
    backbone: str | Backbone,
    num_classes: int | None,
    weights: str | Path | None,
    trainable_layers: int | None,
    out_channels: int,
    norm_layer: Norm | None,
    kwargs: dict[str, Any],
) -> Any:
    """An object of torchvision's class ``cls``."""
    two_stage = issubclass(cls, FasterRCNN)
    if not (num_classes is None and two_stage) and (not isinstance(num_classes, int) or num_classes < 2):
        raise InputError(f'num_classes={num_classes!r} is not at least 2: torchvision counts the background as a class')
    if num_classes is None and kwargs.get('box_predictor') is None:
        raise InputError('num_classes=None needs a box_predictor of your own')
    if 'weights' in kwargs:
        raise InputError('there are no published weights; weights_backbone takes a checkpoint file for the backbone')
    body = _build_body(backbone, RCNN_STRIDES if two_stage else ONE_STAGE_STRIDES)
    if weights is not None:
        load_pretrained(body, weights)
    if trainable_layers is not None:
        if not isinstance(trainable_layers, int) or not 0 <= trainable_layers <= body.num_blocks + 1:
            raise InputError(
                f'trainable_backbone_layers={trainable_layers!r} is not a number of blocks from 0 to '
                f'{body.num_blocks}, or {body.num_blocks + 1} for the stem, too'
            )
        body.requires_grad_(True)  # it may come with more frozen than that
        body.frozen_stages = body.num_blocks - trainable_layers
        body.train()
    extra_blocks = LastLevelMaxPool() if two_stage else LastLevelP6P7(out_channels, out_channels)
    return cls(BackboneWithFPN(body, out_channels, extra_blocks, norm_layer), num_classes, **kwargs)


def _build_body(backbone: str | Backbone, strides: tuple[int, ...]) -> Backbone:
    """The backbone itself, with maps of these strides."""
    if isinstance(backbone, str):
        if backbone not in NAMES:
            raise InputError(f'backbone {backbone!r} is not one of {", ".join(NAMES)}, nor a backbone object')
        arch = backbone.removeprefix('xvit_')
        return XViT(arch=arch, out_strides=strides, drop_path_rate=0.05, mask_padding=True)
    if not isinstance(backbone, Backbone) or backbone.out_strides != strides:
        found = getattr(backbone, 'out_strides', None) or f'{type(backbone).__name__}, which has no pyramid'
        raise InputError(f'the detector needs a backbone of xvit_det with out_strides={strides}, not {found}')
    return backbone
