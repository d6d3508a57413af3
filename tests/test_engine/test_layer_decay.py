"""Layer-wise learning rates, against values worked out by hand."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from torch import nn

import xvit_det  # noqa: F401
from xvit_det.errors import InputError


class Backbone(nn.Module):
    """Stem, two blocks and a final norm: depths 0, 1, 2, 3 of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.gamma = nn.Parameter(torch.ones(2, 2))
        self.norm = nn.LayerNorm(4)

    def get_layer_depth(self, name: str, prefix: str = '') -> tuple[int, int]:
        inner = name.removeprefix(prefix)
        if not name.startswith(prefix) or inner.startswith(('norm', 'gamma')):
            return 3, 4
        return (int(inner.split('.')[1]) + 1 if inner.startswith('blocks') else 0), 4

    def no_weight_decay(self) -> set[str]:
        return {'gamma'}


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(4, 2, bias=False)
        self.head_again = self.head  # shared
        self.scale = nn.Parameter(torch.ones(2))
        self.backbone.blocks[0].bias.requires_grad_(False)

    def forward(self):
        """Not used."""


def settings(model: nn.Module, **paramwise_cfg) -> dict[str, dict]:
    """Optimizer settings by parameter name, for lr=1 and weight_decay=0.1."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
            constructor='LayerDecayOptimWrapperConstructor',
            paramwise_cfg=paramwise_cfg,
        ),
    )
    names = {id(p): name.removeprefix('module.') for name, p in model.named_parameters()}
    groups = [(names[id(p)], group) for group in wrapper.optimizer.param_groups for p in group['params']]
    assert len(groups) == len(dict(groups))  # each parameter once
    return dict(groups)


def test_rates_and_decay_by_hand():
    found = settings(Model(), layer_decay_rate=0.5, norm_decay_mult=0.0, bias_decay_mult=0.2, flat_decay_mult=0.3)
    assert {name: (g['lr'], pytest.approx(g['weight_decay'])) for name, g in found.items()} == {
        'backbone.stem.weight': (0.125, 0.1),  # 0.5 ** 3
        'backbone.stem.bias': (0.125, 0.02),
        'backbone.blocks.0.weight': (0.25, 0.1),  # its bias is frozen
        'backbone.blocks.1.weight': (0.5, 0.1),
        'backbone.blocks.1.bias': (0.5, 0.02),
        'backbone.gamma': (1.0, 0.0),  # in no_weight_decay
        'backbone.norm.weight': (1.0, 0.0),
        'backbone.norm.bias': (1.0, 0.0),
        'head.weight': (1.0, 0.1),
        'scale': (1.0, pytest.approx(0.03)),
    }


def test_custom_keys_come_first_and_the_longest_counts():
    keys = {'blocks': dict(lr_mult=0.1), 'blocks.1': dict(lr_mult=2.0, decay_mult=3.0), 'gamma': dict(decay_mult=1.0)}
    found = settings(Model(), layer_decay_rate=0.5, custom_keys=keys, bias_decay_mult=0.0)
    assert found['backbone.blocks.0.weight']['lr'] == pytest.approx(0.25 * 0.1)
    assert found['backbone.blocks.1.bias']['lr'] == pytest.approx(0.5 * 2)
    assert found['backbone.blocks.1.bias']['weight_decay'] == pytest.approx(0.3)
    assert found['backbone.gamma']['weight_decay'] == pytest.approx(0.1)
    assert keys['blocks'] == dict(lr_mult=0.1)  # the config is not used up


def test_wrapped_model():
    wrapped = nn.Module()
    wrapped.module = Model()
    assert settings(wrapped, layer_decay_rate=0.5)['backbone.stem.weight']['lr'] == 0.125


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain'])
def test_detectors_and_classifiers(scope):
    pytest.importorskip(scope)
    from mmengine.registry import MODELS

    arch = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)
    model = {
        'mmdet': dict(
            type='RetinaNet',
            backbone=dict(type='XViT', arch=arch),
            neck=dict(type='FPN', in_channels=[32] * 4, out_channels=8, num_outs=5),
            bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8),
        ),
        'mmpretrain': dict(
            type='ImageClassifier',
            backbone=dict(type='XViT', arch=arch, out_type='cls_token'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
        ),
    }[scope]
    model = MODELS.build(dict(model, _scope_=scope))
    found = settings(model, layer_decay_rate=0.5)
    assert found.keys() == dict(model.named_parameters()).keys()
    _, layers = model.backbone.get_layer_depth('')
    stem = next(name for name, _ in model.backbone.named_parameters() if name.startswith('stem'))
    assert found[f'backbone.{stem}']['lr'] == 0.5 ** (layers - 1)
    assert {g['lr'] for name, g in found.items() if 'backbone' not in name} == {1.0}
    for name in model.backbone.no_weight_decay():
        assert found[f'backbone.{name}']['weight_decay'] == 0


def test_mistakes():
    with pytest.raises(InputError, match="needs layer_decay_rate, but has only .'layer_decay'"):
        settings(Model(), layer_decay=0.5)
    model = Model()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(InputError, match='Model is Linear'):
        settings(model, layer_decay_rate=0.5)
