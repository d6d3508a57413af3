"""``model.fuse()``: what is fixed after training is folded into neighbouring weights."""

from functools import singledispatch

import torch
from torch import nn

from xvit_det.backbones.base import Backbone
from xvit_det.backbones.cvx import ConvProjection
from xvit_det.backbones.levix import Downsample, LinearNorm
from xvit_det.backbones.pretrained import FUSED
from xvit_det.backbones.xvit import XViTBlock
from xvit_det.deploy.fold import fold_before, fold_behind, fold_layer_norm, fold_norm
from xvit_det.deploy.linear import FusedFeedForward, OneDNNLinear
from xvit_det.deploy.position import CachedPosition
from xvit_det.deploy.xvit_block import FusedXViTBlock
from xvit_det.errors import InputError
from xvit_det.layers import ClassAttentionBlock, ConvStem, DropPath, FeaturePyramid, FeedForward, FourierPosition
from xvit_det.layers.class_attention import ClassAttention
from xvit_det.mixers import XNormAttention


def fuse(model: nn.Module) -> nn.Module:
    """Fold, in place, every norm, affine and scale of the backbones in a model that is fixed after training.

    Outputs stay what they were but for rounding, at any image size. A fused backbone is for inference: its parameters
    need no gradient. It can be saved, loaded into another fused model, copied, compiled and exported. A backbone that
    is fused already stays as it is.

    Args:
        model: A backbone, or a detector, segmentor or classifier that has some. Parts that are not of this package are
            left alone.

    Returns:
        The same model.

    Raises:
        InputError: No backbone of this package is in it, or one is in training mode.
    """
    backbones = [module for module in model.modules() if isinstance(module, Backbone)]
    if not backbones:
        raise InputError(f'{type(model).__name__} has no backbone of xvit_det to fuse')
    if any(module.training for backbone in backbones for module in backbone.modules()):
        raise InputError('fuse() needs a model in evaluation mode, call eval() before: in training its norms change')
    for backbone in backbones:
        if not backbone.is_fused:
            _fold_parts(backbone)
            backbone.requires_grad_(False)
            backbone.register_buffer(FUSED, torch.ones((), dtype=torch.bool, device=next(backbone.parameters()).device))
    return model


@torch.no_grad()
def _fold_parts(module: nn.Module) -> None:
    for name, part in module.named_children():
        _fold_parts(part)
        setattr(module, name, _folded(part).eval())


@singledispatch
def _folded(part: nn.Module) -> nn.Module:
    """What takes the place of a part, whose own parts are folded already; most parts stay."""
    return part


@_folded.register
def _(part: DropPath) -> nn.Module:
    return nn.Identity()


@_folded.register
def _(part: nn.Linear) -> nn.Module:
    return OneDNNLinear(part)


@_folded.register
def _(part: FeedForward) -> nn.Module:
    return FusedFeedForward(part)


@_folded.register
def _(part: FourierPosition) -> nn.Module:
    return CachedPosition(part)


@_folded.register
def _(part: ConvStem) -> nn.Module:
    for level, (conv, norm) in enumerate(zip(part.convs, part.norms, strict=True)):
        part.norms[level] = fold_norm(conv, norm)
    return part


@_folded.register
def _(part: FeaturePyramid) -> nn.Module:
    for level in part.levels:
        layers = list(level.children())
        for index, layer in enumerate(layers[:-1]):
            if isinstance(layer, nn.ConvTranspose2d):
                level[index + 1] = fold_norm(layer, layers[index + 1])
    return part


@_folded.register(XNormAttention)
@_folded.register(ClassAttention)
def _(part: XNormAttention | ClassAttention) -> nn.Module:
    if part.gamma_q is not None:
        gamma = part.gamma_q.double() * part.gamma_kv.double()  # (1, H, 1, 1), of every channel of a head
        fold_before(part.proj, gamma.flatten().repeat_interleave(part.proj.in_features // part.num_heads))
        part.gamma_q = part.gamma_kv = None
    return part


@_folded.register
def _(part: ClassAttentionBlock) -> nn.Module:
    part.norm1 = fold_layer_norm(part.norm1, part.attn.q, part.attn.kv)
    part.norm2 = fold_layer_norm(part.norm2, part.mlp[0])
    fold_behind(part.attn.proj, part.affine1.alpha, part.affine1.beta)
    fold_behind(part.mlp[2], part.affine2.alpha, part.affine2.beta)
    part.affine1, part.affine2 = nn.Identity(), nn.Identity()
    return part


@_folded.register
def _(part: XViTBlock) -> nn.Module:
    return FusedXViTBlock(part)


@_folded.register
def _(part: Downsample) -> nn.Module:
    part.norm = fold_norm(part.conv, part.norm)
    return part


@_folded.register
def _(part: LinearNorm) -> nn.Module:
    part.norm = fold_norm(part.linear, part.norm)
    return part.linear if isinstance(part.norm, nn.Identity) else part


@_folded.register
def _(part: ConvProjection) -> nn.Module:
    part.norm = fold_norm(part.conv, part.norm)  # behind the convolution, so borders need no care
    return part
