"""Check that the necks and heads of MMPretrain's classifiers, retrievers and self-supervised methods fit our backbones.

MMPretrain itself reads one output and ignores the others, or stops at the first batch over the shapes of two matrices.
"""

from typing import Any

import torch
from mmengine.config import Config

from xvit_det.backbones import Backbone
from xvit_det.backbones.base import NO_MASKS
from xvit_det.config.shapes import shapes_or_none
from xvit_det.errors import InputError

# They hide a part of the image and give the mask to the backbone, or expect it from there.
MASKED = ('BEiT', 'CAE', 'EVA', 'MAE', 'MFF', 'MILAN', 'MaskFeat', 'MixMIM', 'SimMIM', 'SparK', 'iTPN')
PREDICTING = ('ImageClassifier', 'ImageToImageRetriever')  # the heads of the others compute losses only
TWO_TOKENS = {'DeiTClsHead': 'a class and a distillation token', 'ConformerHead': 'the tokens of two branches'}
SIDE = 224  # pixels, of the image that is tried where the backbone has no size of its own


def check_pretrain_model(cfg: Config) -> None:
    """Check that neck and head take what the backbone, if it is one of ours, returns.

    Raises:
        InputError: The method hides parts of the image, the backbone returns maps or vectors that a neck or head does
            not take, or the queue does not hold whole batches.
    """
    model = cfg.model
    # A retriever keeps backbone and necks in `image_encoder`.
    encoder = model.get('image_encoder') or model.get('backbone')
    backbone_cfg, *neck_cfgs = [*_as_list(encoder), *_as_list(model.get('neck'))] or [{}]
    backbone = shapes_or_none(backbone_cfg, 'mmpretrain')
    if not isinstance(backbone, Backbone):
        return
    name = backbone_cfg['type']
    if model.type in MASKED:
        raise InputError(f'model.backbone ({name}) {NO_MASKS}, not {model.type}')
    if backbone.out_type == 'pyramid' and 'HRFuseScales' not in [neck['type'] for neck in neck_cfgs]:
        raise InputError(
            f'{model.type} takes no pyramid: set out_type of model.backbone ({name}) to cls_token or avg_featmap, or '
            f'to featmap with a neck that pools'
        )
    _check_queue(cfg)
    try:
        features = _features(backbone)
    except InputError:  # its mixer takes images of another size only
        return
    given = f'{_describe(features)} (out_type {backbone.out_type} of {name})'
    if model.type not in PREDICTING and len(features) > 1:
        raise InputError(f'{model.type} takes one output, not {given}: set out_indices to a single block')
    parts = [('neck', neck) for neck in neck_cfgs]
    if model.type in PREDICTING and model.get('head'):
        parts.append(('head', model.head))
    for part, part_cfg in parts:
        if part_cfg['type'] in TWO_TOKENS:
            raise InputError(f'model.head ({part_cfg["type"]}) needs {TWO_TOKENS[part_cfg["type"]]}, not {given}')
        module = shapes_or_none(part_cfg, 'mmpretrain')
        if module is not None:
            features = _apply(module, [features] if model.type == 'SwAV' else features, f'model.{part}', given)
            given = f'{_describe(features)} (from {type(module).__name__})'


def _as_list(parts: Any) -> list:
    return list(parts) if isinstance(parts, (list, tuple)) else [parts] if parts else []


def _check_queue(cfg: Config) -> None:
    """mmpretrain asserts this, at the first batch and without a message."""
    queue, batch = cfg.model.get('queue_len'), (cfg.get('train_dataloader') or {}).get('batch_size')
    if queue and batch and queue % batch:
        raise InputError(
            f'model.queue_len={queue} is not a multiple of the batch size {batch}, as {cfg.model.type} needs: set '
            f'model.queue_len={max(queue // batch, 1) * batch}'
        )


@torch.no_grad()
def _features(backbone: Backbone) -> Any:
    """What the backbone returns for one image. For two, heads that unpack two tokens would take the images for them."""
    size = getattr(backbone, 'img_size', (SIDE, SIDE))
    return backbone.eval()(torch.empty(1, backbone.in_channels, *size, device='meta'))


@torch.no_grad()
def _apply(module: Any, features: Any, where: str, given: str) -> Any:
    try:
        return module.eval()(features)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        if 'meta' in str(error).lower():  # an operation that needs numbers, not shapes: training will tell
            return features
        raise InputError(
            f'{where} ({type(module).__name__}) does not take {given}: set its in_channels, or out_type of the '
            f'backbone (featmap for what pools, cls_token or avg_featmap for a head)'
        ) from error


def _describe(features: Any) -> str:
    tensors = [f for f in _as_list(features if isinstance(features, tuple) else (features,)) if torch.is_tensor(f)]
    kind = 'map' if tensors and tensors[0].ndim == 4 else 'vector'
    channels = '/'.join(str(t.shape[1]) for t in tensors)
    return f'{len(tensors)} {kind}{"s" * (len(tensors) > 1)} of {channels} channels'
