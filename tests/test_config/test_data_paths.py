"""Pointing a config at another folder, whatever wraps its datasets."""

from pathlib import Path

import mmpretrain.datasets  # noqa: F401  (registers CIFAR10)
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from xvit_det.config.data_paths import SPLITS, dataset_configs, set_data_root
from xvit_det.errors import InputError
from xvit_det.hub import find_config


def coco(split: str, **more) -> dict:
    return dict(type='CocoDataset', ann_file=f'annotations/{split}.json', data_prefix=dict(img=f'{split}/'), **more)


def test_every_dataset_and_metric_moves(tmp_path):
    old = 'data/coco/'
    wrapped = dict(
        type='ConcatDataset',
        datasets=[
            dict(type='RepeatDataset', times=2, dataset=coco('a', data_root=old)),
            dict(type='ClassBalancedDataset', dataset=coco('b', data_root=old)),
        ],
    )
    absolute = dict(type='CocoDataset', ann_file=f'{old}annotations/c.json', data_prefix=dict(img=f'{old}c/'))
    cfg = Config(
        dict(
            data_root=old,
            train_dataloader=dict(dataset=wrapped),
            val_dataloader=dict(dataset=absolute),
            val_evaluator=[dict(type='CocoMetric', ann_file=old + 'annotations/c.json'), dict(type='DumpResults')],
            test_dataloader=dict(dataset=coco('d', data_root=old)),
            test_evaluator=dict(metrics=[dict(type='CocoMetric', ann_file=old + 'annotations/d.json')]),
        )
    )
    new = str(tmp_path)
    set_data_root(cfg, new)
    assert cfg.data_root == new
    train = list(dataset_configs(cfg, 'train'))
    assert [d.ann_file for d in train] == ['annotations/a.json', 'annotations/b.json']  # still below data_root
    assert {d.data_root for s in ('train', 'val', 'test') for d in dataset_configs(cfg, s)} == {new}
    (val,) = dataset_configs(cfg, 'val')
    assert (val.ann_file, val.data_prefix.img) == (f'{new}/annotations/c.json', f'{new}/c')
    assert cfg.val_evaluator[0].ann_file == f'{new}/annotations/c.json'
    assert cfg.test_evaluator.metrics[0].ann_file == f'{new}/annotations/d.json'


@pytest.mark.parametrize('name', ['vit_cifar10', 'vit_tinyimagenet'])
def test_folder_of_a_fixed_name_or_its_parent(tmp_path, monkeypatch, name):
    cfg = Config.fromfile(find_config(name))
    (dataset,) = dataset_configs(cfg, 'train')
    folder = tmp_path / DATASETS.get(f'mmpretrain.{dataset.type}').base_folder
    folder.mkdir()
    monkeypatch.chdir(folder)
    for given in (folder, '.', tmp_path, '..'):
        set_data_root(cfg, str(given))
        roots = {Path(d.data_root).resolve() for split in SPLITS for d in dataset_configs(cfg, split)}
        assert roots == {tmp_path}


def test_a_folder_whose_name_begins_alike_stays(tmp_path):
    dataset = dict(type='CocoDataset', data_root='coco', ann_file='coco_train.json', data_prefix=dict(img='coco2017/'))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    set_data_root(cfg, str(tmp_path))
    moved = cfg.train_dataloader.dataset
    assert (moved.data_root, moved.ann_file, moved.data_prefix.img) == (str(tmp_path), 'coco_train.json', 'coco2017/')


def test_dataset_without_root(tmp_path):
    cfg = Config(dict(train_dataloader=dict(dataset=coco('a'))))
    with pytest.raises(InputError, match='train dataset CocoDataset has no data_root'):
        set_data_root(cfg, str(tmp_path))
