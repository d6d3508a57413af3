"""Which new keys ``--cfg-options`` takes; tests/test_cli/test_wrong_input.py has those that it refuses."""

import pytest
from mmengine.config import Config

from xvit_det.config.options import apply_options
from xvit_det.errors import InputError
from xvit_det.signatures import constructor_arguments


def config() -> Config:
    return Config(
        dict(
            model=dict(backbone=dict(type='XViT', arch='tiny', init_cfg=None)),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1), paramwise_cfg=dict()),
            train_dataloader=dict(batch_size=2, dataset=dict(type='Any', pipeline=[dict(type='RandomFlip', prob=0.5)])),
            env_cfg=dict(),
        )
    )


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.backbone.drop_path_rate', 0.1),  # an argument of XViT
        ('model.backbone.init_cfg.checkpoint', 'a.pth'),  # below None
        ('optim_wrapper.clip_grad.max_norm', 1),  # an argument of OptimWrapper, new
        ('optim_wrapper.accumulative_counts', 2),  # an argument of OptimWrapper
        ('optim_wrapper.optimizer.betas', [0.9, 0.99]),
        ('optim_wrapper.paramwise_cfg.custom_keys.gamma.lr_mult', 2),  # free
        ('train_dataloader.prefetch_factor', 4),  # torch's
        ('train_dataloader.dataset.pipeline.0.prob', 0.1),  # an element of a list
        ('train_dataloader.dataset.whatever', 1),  # of a class nobody knows
        ('randomness.seed', 1),  # the Runner's
        ('find_unused_parameters', True),
        ('env_cfg.cudnn_benchmark', True),
    ],
)
def test_new_keys(key, value):
    cfg = config()
    apply_options(cfg, {key: value})
    node = cfg
    for part in key.split('.'):
        node = node[int(part) if part.isdigit() else part]
    assert node == value


def test_replacing_a_part():
    cfg = config()
    apply_options(cfg, {'model.backbone._delete_': True, 'model.backbone.type': 'ResNet', 'model.backbone.depth': 50})
    assert cfg.model.backbone == dict(type='ResNet', depth=50)


def test_type_and_its_arguments_together():
    cfg = config()
    apply_options(cfg, {'optim_wrapper.optimizer.type': 'SGD', 'optim_wrapper.optimizer.momentum': 0.9})
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=1, momentum=0.9)


def test_refusal_names_close_keys():
    with pytest.raises(InputError, match="no 'drop_path' in model.backbone; did you mean drop_path_rate"):
        apply_options(config(), {'model.backbone.drop_path': 0.1})


def test_arguments_through_kwargs():
    class Parent:
        def __init__(self, a): ...

    class Child(Parent):
        def __init__(self, b, **kwargs): ...

    def takes_all(**kwargs): ...

    assert constructor_arguments(Child) == {'a', 'b'}
    assert constructor_arguments(takes_all) is None and constructor_arguments(None) is None
