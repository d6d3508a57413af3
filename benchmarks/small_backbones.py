"""Small variants of every backbone, each of which takes any token mixer."""

from typing import Any

import torch
from mmengine.registry import MODELS

from xvit_det.backbones import Backbone

ONE_STAGE = dict(embed_dims=(16,), depths=(4,), num_heads=(2,), hidden_dims=(32,), head_dims=8)
TWO_STAGES = dict(embed_dims=(16, 32), depths=(2, 2), num_heads=(2, 4), hidden_dims=(32, 64), head_dims=8)
ALL = dict(pyramid_indices=(0, 1, 2, 3))
TOKENIZER = dict(tokenizer_widths=(8,), tokenizer_kernel=3, pool_stride=2)
XVIT = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)

FAMILIES: dict[str, dict[str, Any]] = {
    'XViT': dict(type='XViT', arch=XVIT),
    'XViT, fused': dict(type='XViT', arch=XVIT),
    'ViX': dict(type='ViX', arch=dict(**ONE_STAGE, **ALL, init_std=0.5)),
    'ViX, hybrid': dict(type='ViX', stem='deep_conv', arch=dict(**ONE_STAGE, **ALL, init_std=0.5)),
    'ViX, rotary': dict(type='ViX', position='axial', arch=dict(**ONE_STAGE, **ALL, init_std=0.5)),
    'LeViX': dict(type='LeViX', arch=dict(**TWO_STAGES, **ALL, pre_norm=True)),
    'CCX': dict(type='CCX', arch=dict(**ONE_STAGE, **ALL, **TOKENIZER)),
    'CvX': dict(type='CvX', arch=dict(**TWO_STAGES, **ALL, kernels=(7, 3), later_stride=2), patch_size=8),
    'PiX': dict(type='PiX', arch=dict(**TWO_STAGES, **ALL, init_std=0.5), patch_size=16),
}


def build(family: str, mixer: str, **options: Any) -> Backbone:
    """A variant with a mixer, in evaluation mode.

    Raises:
        InputError: A mixer that this backbone does not take.
    """
    torch.manual_seed(0)
    settings = dict(landmarks=16) if mixer == 'nystrom' else {}  # of 49 tokens in second stages
    net = MODELS.build({**FAMILIES[family], 'mixer': dict(type=mixer, **settings), **options}).eval()
    return net.fuse() if family.endswith('fused') else net
