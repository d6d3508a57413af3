"""What is generated from configs and records is current; the model index validates and marks the papers' figures."""

import importlib.util
from pathlib import Path

import modelindex
import pytest

from xvit_det import hub

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def index():
    return modelindex.load(str(REPO / 'model-index.yml'))


@pytest.mark.heavy
def test_generated_files_are_current():
    spec = importlib.util.spec_from_file_location('generate', REPO / 'tools' / 'generate.py')
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    outdated = [path for path, text in generate.generated().items() if path.read_text() != text]
    assert not outdated, 'run `python tools/generate.py`'


def test_it_validates(index):
    assert index.check(silent=True) == []


def test_every_model_is_a_config_and_the_reverse(index):
    listed = {model.name: model.config for model in index.models}
    own_data = {
        f'{model}_{data}' for model in ('mask_rcnn_xvit', 'semantic_fpn_xvit') for data in ('s_custom', 'shapes')
    }
    own_data.add('mask_rcnn_xvit_context')
    assert set(listed) == set(hub.list_models()) - own_data
    for name, path in listed.items():
        assert REPO / path == hub.find_config(name)


def test_figures_are_marked_and_stand_at_one_recipe(index):
    coco = [
        model
        for model in index.models
        if model.results and model.results[0].dataset == 'COCO' and not model.name.startswith('mask_rcnn_xcit')
    ]
    assert [model.name for model in coco] == [f'mask_rcnn_xvit_{size}_3x' for size in 'bms']
    metrics = {
        name: value
        for model in coco
        for result in model.results
        for name, value in result.metrics.items()
        if model.name == 'mask_rcnn_xvit_s_3x'
    }
    assert metrics == {'box AP (paper)': 44.6, 'mask AP (paper)': 40.4}
    for model in index.models:
        (whose,) = [f"({name}'s authors)" for name in ('XCiT', 'DeiT') if name.lower() in model.name] or ['(paper)']
        assert all(name.endswith(whose) for result in model.results or [] for name in result.metrics)


def test_every_xcit_config_has_the_figures_of_its_authors(index):
    figures = {
        model.name: [value for result in model.results for value in result.metrics.values()]
        for model in index.models
        if model.in_collection.startswith('XCiT')
    }
    assert set(figures) == set(hub.list_models('*xcit_*')) and len(figures) == 38
    assert figures['mask_rcnn_xcit_small_12_p16_3x'] == [45.3, 40.8]
    assert figures['upernet_xcit_medium_24_p8_ade20k_160k'] == [48.4]
    assert figures['xcit_nano_12_p16_in1k'] == [69.9]


def test_dino_has_no_total(index):
    """The two OpenMMLab families build different DINOs."""
    assert [model.name for model in index.models if model.metadata.parameters is None] == ['dino_xvit_s_12e']


def test_papers_figures_say_that_they_are(load):
    for name in hub.list_models():
        for figures in map(load(name).get, ('paper', 'published')):
            assert not figures or 'not measured here' in figures.source
