"""What test_torch_alone.py runs in two environments: every backbone with every mixer, and ways to load weights.

Usage: worker.py FOLDER OUTPUT.pt; FOLDER has weights.pth and weights.safetensors.
"""

import sys
from pathlib import Path

import safetensors.torch
import torch

import xvit_det
from xvit_det import CCX, CvX, LeViX, PiX, ViX, XViT, count_macs, count_parameters
from xvit_det.backbones.base import OUT_TYPES
from xvit_det.deploy import fuse
from xvit_det.mixers import MIXERS

SIZE = (64, 96)
SPARSE = {'linformer': dict(type='linformer', projected=4), 'nystrom': dict(type='nystrom', landmarks=4)}
PYRAMID = dict(pyramid_indices=(0, 1, 2, 3), head_dims=8)
ONE_STAGE = dict(PYRAMID, embed_dims=(16,), depths=(4,), num_heads=(2,), hidden_dims=(32,))
TWO_STAGES = dict(PYRAMID, embed_dims=(16, 32), depths=(2, 2), num_heads=(2, 4), hidden_dims=(32, 64))
X_VIT = dict(embed_dims=16, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)
FAMILIES = {
    ViX: dict(arch=dict(ONE_STAGE, init_std=0.5), patch_size=16),
    LeViX: dict(arch=dict(TWO_STAGES, pre_norm=True), patch_size=16),
    CCX: dict(arch=dict(ONE_STAGE, tokenizer_widths=(8,), tokenizer_kernel=3, pool_stride=2), patch_size=8),
    CvX: dict(arch=dict(TWO_STAGES, kernels=(7, 3), later_stride=2), patch_size=8),
    PiX: dict(arch=dict(TWO_STAGES, init_std=0.5), patch_size=8),
}


def models():
    """Name and model: every family with every mixer, X-ViT with those that take images of any size, all outputs."""
    pyramids = [(mixer, 'pyramid') for mixer in MIXERS]
    for mixer, out_type in [*pyramids, *(('xnorm', out_type) for out_type in OUT_TYPES if out_type != 'pyramid')]:
        options = dict(mixer=SPARSE.get(mixer, mixer), out_type=out_type)
        for family, sizes in FAMILIES.items():
            yield f'{family.__name__} {mixer} {out_type}', family(**sizes, **options, img_size=SIZE)
        if mixer not in ('linformer', 'mlp'):
            yield f'XViT {mixer} {out_type}', XViT(arch=X_VIT, **options)


def load_in_every_way(folder: Path):
    """Name and backbone: weights.pth and weights.safetensors through ``load_state_dict`` and through ``init_cfg``."""
    for suffix, read in (('.pth', torch.load), ('.safetensors', safetensors.torch.load_file)):
        path = folder / f'weights{suffix}'
        model = XViT(arch=X_VIT)
        model.load_state_dict(read(path))
        yield f'load_state_dict {suffix}', model
        model = XViT(arch=X_VIT, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
        model.init_weights()
        yield f'init_cfg {suffix}', model


@torch.no_grad()
def main(folder: Path, output: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    image, results = torch.randn(2, 3, *SIZE), {'models': xvit_det.list_models()}
    for name, model in models():
        model.eval()
        results[name] = [count_parameters(model), *model(image)]
        if 'xnorm' in name:
            results[name].append(count_macs(model, SIZE))
        results[f'{name}, fused'] = [*fuse(model)(image)]
    for name, model in load_in_every_way(folder):
        results[name] = [*model.eval()(image)]
    torch.save(results, output)


if __name__ == '__main__':
    main(*map(Path, sys.argv[1:]))
