"""Check that the heads of one of mmdet's models get maps of the strides that they are made for."""

import math
from collections.abc import Iterator

from mmengine.config import Config
from torch import nn

from xvit_det.backbones import Backbone
from xvit_det.config.feature_maps import SIDE, NotOnMetaDevice, feature_maps, strides_of
from xvit_det.config.shapes import shapes_or_none
from xvit_det.errors import InputError


def check_detector(cfg: Config) -> None:
    """Compare the strides of anchors, points and regions of interest with those of the maps.

    Raises:
        InputError: They differ, or the neck does not accept the backbone's maps.
    """
    # Trackers and semi-supervised models wrap a detector. A distillation model is the student itself.
    path, part = ('model.detector', cfg.model.detector) if 'detector' in cfg.model else ('model', cfg.model)
    no_teacher = {'teacher_ckpt': None} if 'teacher_ckpt' in part else {}
    model = shapes_or_none({**part, 'data_preprocessor': None, **no_teacher}, 'mmdet')
    if not isinstance(getattr(model, 'backbone', None), Backbone):
        return
    try:
        model.eval()  # which in distillation models returns nothing
        given = strides_of(feature_maps(model, path))
    except NotOnMetaDevice:
        return
    for name, expected in _expected_strides(model):
        if len(given) < len(expected) or not all(map(_fits, given, expected)):
            raise InputError(
                f'{path}.{name} is made for maps of strides {expected}, but gets maps of strides {given}; '
                f"set the backbone's out_strides (now {list(model.backbone.out_strides)}), and start_level, "
                f'num_outs and in_channels of the neck, so that they agree'
            )


def _fits(given: int, expected: float) -> bool:
    """Strides differ by factors of two; YOLACT divides 550 pixels by the sizes of its maps, and expects 30.6 for 32.

    Convolutions without padding, such as the last ones of SSD, make maps whose sizes do not divide the image's.
    """
    return SIDE % given > 0 or abs(math.log2(given / expected)) < 0.5


def _expected_strides(model: nn.Module) -> Iterator[tuple[str, list[int]]]:
    """The strides that anchors, points and regions of interest are made for, with the part's name."""
    for name, module in model.named_modules():
        if name.startswith('teacher_model.'):
            continue
        generator = getattr(module, 'prior_generator', None)
        if generator is not None and hasattr(generator, 'strides'):
            yield name, [stride[0] if isinstance(stride, tuple) else stride for stride in generator.strides]
        # HTC's semantic_roi_extractor reads the map of the semantic head.
        if hasattr(module, 'featmap_strides') and not name.endswith('semantic_roi_extractor'):
            yield name, list(module.featmap_strides)
