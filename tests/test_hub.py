"""Finding, listing and building the shipped configs by name."""

import shutil
from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.registry import DefaultScope

from xvit_det import hub
from xvit_det.errors import InputError


def test_names_are_unique_sorted_files():
    names = hub.list_models()
    files = [file for file in hub.config_dir().rglob('*.py') if '_base_' not in file.parts]
    assert names == sorted(file.stem for file in files)
    assert 'mask_rcnn_xvit_s_3x' in names and 'xvit_b_384_in1k' in names


def test_pattern():
    assert hub.list_models('mask_rcnn_xvit_?_3x') == [f'mask_rcnn_xvit_{size}_3x' for size in 'bmst']
    assert hub.list_models('resnet*') == []


@pytest.mark.parametrize('given', ['xvit_t_in1k', 'xvit_t_in1k.py', 'configs/classification/xvit_t_in1k.py'])
def test_find_config_takes_names_and_paths(given, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # not the repository: the path is no file here, its name still is one of ours
    assert hub.find_config(given) == hub.config_dir() / 'classification' / 'xvit_t_in1k.py'


def test_a_users_own_file_is_found(tmp_path):
    own = tmp_path / 'xvit_t_in1k.py'
    own.touch()
    assert hub.find_config(own) == own


def test_mmdets_own_configs():
    path = hub.find_config('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py')
    assert path == Path(mmdet.__file__).parent / '.mim/configs/swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
    assert hub.find_config('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco') == path
    with pytest.raises(InputError, match="'swin/mask-rcnn_swin-t.py'; did you mean .*swin/mask-rcnn_swin-"):
        hub.find_config('mmdet::swin/mask-rcnn_swin-t.py')


def test_without_mmdet_its_configs_are_refused(monkeypatch):
    monkeypatch.setattr(hub, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match='mmdet is not installed: install one OpenMMLab family'):
        hub.find_config('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py')


def test_unknown_name_lists_the_close_ones():
    with pytest.raises(InputError, match=r"'mask_rcnn_xvit_s_4x'.*mask_rcnn_xvit_s_3x"):
        hub.find_config('mask_rcnn_xvit_s_4x')
    with pytest.raises(ValueError, match='xvit_t_in1k'):
        hub.create_model('xvit_tt_in1k')


def test_an_installed_wheel_has_its_configs_inside(monkeypatch, tmp_path):
    package = tmp_path / 'site-packages' / 'xvit_det'
    shutil.copytree(hub.config_dir(), package / '.mim' / 'configs')
    (tmp_path / 'site-packages' / 'configs').mkdir()  # of some other package
    monkeypatch.setattr(hub, '__file__', str(package / 'hub.py'))
    assert hub.config_dir() == package / '.mim' / 'configs'
    model = hub.create_model('xvit_t_in1k')
    assert model.cfg.filename.startswith(str(package))


def test_a_package_without_configs_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, '__file__', str(tmp_path / 'xvit_det' / 'hub.py'))
    with pytest.raises(InputError, match='no configs'):
        hub.config_dir()


@pytest.mark.parametrize('scope', [None, 'mmdet', 'mmpretrain'])
@pytest.mark.parametrize('name', ['mask_rcnn_xvit_shapes', 'xvit_t_in1k'])
def test_builds_from_any_scope_and_leaves_it(scope, name):
    def current() -> str | None:
        instance = DefaultScope.get_current_instance()
        return instance and instance.scope_name

    before = current()
    with DefaultScope.overwrite_default_scope(scope):
        inside = current()
        model = hub.create_model(name)
        assert current() == inside
    assert current() == before
    assert type(model.backbone).__name__ == 'XViT'
    assert not model.training and model.cfg.model.backbone.type == 'XViT'


def test_classifier_normalises_as_its_config_says():
    model = hub.create_model('xvit_t_in1k')
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx(model.cfg.data_preprocessor.mean)


def test_overrides_reach_the_model():
    model = hub.create_model('xvit_t_in1k', backbone=dict(with_cp=True), head=dict(num_classes=7))
    assert model.backbone.with_cp
    assert model.backbone.embed_dims == 192  # what is not overridden stays
    assert model.head.fc.out_features == 7


def test_a_dict_may_replace_a_name():
    mixer = dict(type='softmax', fused=False)
    model = hub.create_model('hybrid_vin_cifar10', backbone=dict(mixer=mixer, drop_path_rate=0.1))
    assert not model.backbone.blocks[0].mixer.fused
    assert model.backbone.blocks[-1].drop_path.rate == 0.1


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (dict(backbon=dict()), r"'backbon'.*backbone"),
        (dict(backbone=dict(with_pc=True)), r"'backbone.with_pc'.*with_cp"),
        (dict(head=dict(num_class=3)), r"'head.num_class'.*num_classes"),
        (dict(head=dict(loss=dict(smoothing=0.1))), r"'head.loss.smoothing'"),
    ],
)
def test_unknown_override_lists_the_close_ones(overrides, message):
    with pytest.raises(ValueError, match=message):
        hub.create_model('xvit_t_in1k', **overrides)


def test_pretrained_weights_are_loaded(tmp_path):
    source = hub.create_model('xvit_t_in1k')
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'weights.pth')
    loaded = hub.create_model('xvit_t_in1k', pretrained=tmp_path / 'weights.pth')
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(image), source(image))
    with pytest.raises(InputError, match='does not exist'):
        hub.create_model('xvit_t_in1k', pretrained=tmp_path / 'other.pth')


def test_building_is_quiet(capfd):
    hub.create_model('xvit_t_in1k')
    shown = ''.join(capfd.readouterr())
    assert 'backbone.blocks.0' not in shown


def test_a_path_in_another_folder_is_not_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.find_config('configs/classification/xvit_s_in1k.py') == hub.find_config('xvit_s_in1k')
    assert hub.find_config('classification/xvit_s_in1k') == hub.find_config('xvit_s_in1k')
    for path in ('my_configs/xvit_s_in1k.py', 'configs/xvit_s_in1k.py', ''):
        with pytest.raises(InputError, match='no config'):
            hub.find_config(path)


def test_overriding_a_classifiers_preprocessing_keeps_the_rest_of_it():
    model = hub.create_model('xvit_t_in1k', data_preprocessor=dict(num_classes=10))
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_an_override_where_the_config_says_none():
    neck = dict(type='LinearNeck', in_channels=192, out_channels=8)
    assert hub.create_model('xvit_t_in1k', neck=neck, head=dict(in_channels=8)).neck.fc.out_features == 8
