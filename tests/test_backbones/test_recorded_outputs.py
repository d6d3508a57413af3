"""Outputs of every backbone and mixer against recorded ones, so that no change of the code alters them unseen.

``XVIT_DET_RECORD=1`` records them anew, after a change that is meant to alter outputs.
"""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

import xvit_det

RECORDED = Path(__file__).parents[1] / 'data' / 'backbone_outputs.json'
SIZE = (70, 90)

_VIX = dict(type='ViX', arch='paper', patch_size=16)
_OTHERS = {
    'LeViX': dict(type='LeViX', arch='paper', patch_size=16),
    'CCX': dict(type='CCX', arch='paper', patch_size=8),
    'CvX': dict(type='CvX', arch='paper', patch_size=16),
    'PiX': dict(type='PiX', arch='paper', patch_size=8),
}
_MIXERS = {
    'softmax': 'softmax',
    'performer': 'performer',
    'linformer': dict(type='linformer', projected=8),
    'nystrom': dict(type='nystrom', landmarks=8),
}
CASES = {
    'XViT pyramid': dict(type='XViT', arch='small', out_type='pyramid'),
    'XViT': dict(type='XViT', arch='small'),
    'XViT xca': dict(type='XViT', arch='nano_12', mixer='xca'),
    'XViT xca, pyramid': dict(type='XViT', arch='nano_12', mixer='xca', patch_size=8, out_type='pyramid'),
    **{f'ViX {name}': dict(_VIX, mixer=mixer) for name, mixer in _MIXERS.items()},
    **{f'ViX {name} rotary': dict(_VIX, mixer=mixer, position='rotary') for name, mixer in _MIXERS.items()},
    **{f'{family} {name}': dict(cfg, mixer=m) for family, cfg in _OTHERS.items() for name, m in _MIXERS.items()},
    'ViX fourier': dict(_VIX, mixer='fourier'),
    'ViX xnorm': dict(_VIX, mixer='xnorm'),
    'ViX xca': dict(_VIX, mixer='xca'),
    'ViX identity': dict(_VIX, mixer='identity'),
    'ViX mlp': dict(_VIX, mixer='mlp', arch='paper_mixer', position='none', out_type='avg_featmap', img_size=SIZE),
    'ViX relu, local, axial': dict(
        _VIX, mixer=dict(type='performer', kernel='relu', local_heads=1, window=8), position='axial'
    ),
    'ViX many heads, own values': dict(
        _VIX, mixer=dict(type='linformer', projected=8, one_kv_head=False, share_kv=False), position='rotary'
    ),
    'ViX masked, hybrid, pyramid': dict(
        _VIX, mixer=dict(type='nystrom', landmarks=8, mask_fill=True), stem='deep_conv', out_type='pyramid'
    ),
    'PiX pyramid': dict(_OTHERS['PiX'], mixer='fourier', stem='overlap', out_type='pyramid'),
    'CvX pyramid': dict(_OTHERS['CvX'], mixer='softmax', out_type='pyramid'),
}


def fill(model: nn.Module) -> None:
    """Numbers that depend on nothing but their place, so that the recorded outputs hold on every machine."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            ramp = torch.arange(tensor.numel(), dtype=torch.float64)
            scale = 0.5 / math.sqrt(tensor[0].numel()) if tensor.ndim > 1 else 0.5
            wave = scale * torch.sin(ramp * 0.7 + tensor.ndim)
            tensor.copy_((wave + (1.0 if tensor.ndim == 1 else 0.0)).view_as(tensor))


def test_every_backbone_and_mixer_is_recorded():
    assert {cfg['type'] for cfg in CASES.values()} == set(xvit_det.backbones.__all__) - {'Backbone', 'load_pretrained'}
    assert set(xvit_det.mixers.MIXERS) <= {word for name in CASES for word in name.split()}


@pytest.mark.parametrize('name', CASES)
def test_outputs_are_the_recorded_ones(name):
    # Tables and projections made for 64 x 64 images are resampled to SIZE.
    options = {} if CASES[name]['type'] == 'XViT' else dict(img_size=64)
    model = MODELS.build({**options, 'out_type': 'cls_token', **CASES[name]}).double().eval()
    fill(model)
    image = torch.sin(torch.arange(3 * SIZE[0] * SIZE[1], dtype=torch.float64) * 0.01).view(1, 3, *SIZE)
    with torch.no_grad():
        outs = model(image)
    summary = [[out.mean().item(), out.std().item(), *out.flatten()[::29][:5].tolist()] for out in outs]
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    if os.environ.get('XVIT_DET_RECORD'):
        recorded[name] = [[float(f'{number:.8g}') for number in row] for row in summary]
        lines = (f'{json.dumps(key)}: {json.dumps(recorded[key])}' for key in CASES if key in recorded)
        RECORDED.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    else:
        for ours, theirs in zip(summary, recorded[name], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
