"""The model index: it validates, its names are our configs, its figures are right and the papers' are marked."""

import modelindex
import pytest

from xvit_det import hub
from xvit_det.analysis import count_macs, count_parameters

PAPER_KEYS = {
    'box AP (paper)': 'bbox_mAP',
    'mask AP (paper)': 'segm_mAP',
    'Top 1 Accuracy (paper)': 'top1',
    'Top 5 Accuracy (paper)': 'top5',
}


@pytest.fixture(scope='module')
def index():
    return modelindex.load(str(hub.config_dir().parent / 'model-index.yml'))


def test_it_validates(index):
    assert index.check(silent=True) == []


def test_every_model_is_a_config_and_the_reverse(index):
    listed = {model.name: model.config for model in index.models}
    own_data = {'mask_rcnn_xvit_s_custom', 'mask_rcnn_xvit_shapes'}
    assert set(listed) == set(hub.list_models()) - own_data
    for name, path in listed.items():
        assert hub.config_dir().parent / path == hub.find_config(name)


def test_figures(index, shapes_of):
    for model in index.models:
        cfg, built = shapes_of(model.name)
        if model.name != 'dino_xvit_s_12e':  # the two OpenMMLab families build different DINOs
            assert model.metadata.parameters == count_parameters(built), model.name
        if model.in_collection == 'X-ViT classification':
            assert model.metadata.flops == count_macs(built, cfg.test_pipeline[2].crop_size), model.name
        assert model.metadata.epochs == cfg.train_cfg.max_epochs
        listed = {PAPER_KEYS[key]: value for result in model.results or [] for key, value in result.metrics.items()}
        paper = cfg.get('paper') or {}
        assert listed == {key: paper[key] for key in PAPER_KEYS.values() if key in paper}, model.name
        assert not paper or 'not measured here' in paper.source
