"""Each distinct model of the shipped configs, built once, and random input for it."""

import functools
import json
from collections.abc import Callable

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from xvit_det import hub


def load_config(name: str) -> Config:
    return Config.fromfile(hub.find_config(name), import_custom_modules=False)


@pytest.fixture
def load() -> Callable[[str], Config]:
    """Config of a name, without importing what it asks for."""
    return load_config


@pytest.fixture(scope='module')
def shapes_of() -> Callable[[str], tuple[Config, torch.nn.Module]]:
    """Config of a name and its model with shapes but no numbers, which takes no time and no memory."""

    def build(name: str) -> tuple[Config, torch.nn.Module]:
        cfg = Config.fromfile(hub.find_config(name))
        with torch.device('meta'):
            return cfg, MODELS.build({**cfg.model, '_scope_': cfg.default_scope})

    return build


@functools.cache
def distinct_models() -> list[str]:
    """One config for each model: 3x and fixed800, or 224 and 384, differ in their data and schedule only.

    Segmentors are in test_segmentation.py.
    """
    configs = {name: load_config(name) for name in reversed(hub.list_models())}
    models = {
        json.dumps(cfg.model.to_dict(), sort_keys=True): name
        for name, cfg in configs.items()
        if cfg.default_scope != 'mmseg'
    }
    return sorted(models.values())


def fewer_candidates(model: dict) -> dict:
    """Overrides that keep the architecture and make a step on a small image as cheap as the image."""
    overrides: dict = {}
    if model['type'] == 'DINO':
        overrides = dict(num_queries=30)
    elif 'rpn_head' in model:
        few = dict(max_per_img=20)
        overrides = dict(train_cfg=dict(rpn_proposal=few), test_cfg=dict(rpn=few))
    mixer = model['backbone'].get('mixer')
    if isinstance(mixer, dict) and 'landmarks' in mixer:  # no more than the image has tokens
        overrides['backbone'] = dict(mixer=dict(landmarks=4))
    return overrides


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if 'built' in metafunc.fixturenames:
        metafunc.parametrize('built', distinct_models(), indirect=True, scope='module')


@pytest.fixture(scope='module')
def built(request: pytest.FixtureRequest) -> torch.nn.Module:
    """The model of a config, with its config in ``.cfg`` and the config's name in ``.name``."""
    torch.manual_seed(0)
    model = hub.create_model(request.param, **fewer_candidates(load_config(request.param).model))
    model.name = request.param
    return model


@pytest.fixture
def random_batch(built: torch.nn.Module) -> dict:
    """Two random images, of the size that a classifier is made for if it says so, for detectors of different sizes and
    with two random objects each, as a data loader gives; two views of them for a self-supervised method."""
    torch.manual_seed(0)
    if built.cfg.default_scope == 'mmpretrain':
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(label) for label in (1, 2)]
        size = built.cfg.model.backbone.get('img_size', 64)
        views = [torch.randint(256, (2, 3, size, size), dtype=torch.uint8) for _ in range(2)]
        return dict(inputs=views[0] if 'test_cfg' in built.cfg else views, data_samples=samples)
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(2, [[3, 64, 96], [3, 96, 64]], num_items=[2, 2], num_classes=2, with_mask=True)
