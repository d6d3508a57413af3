"""Tiny ImageNet in the layout of its archive, drawn here with two classes."""

import subprocess
import sys

import pytest
from mmengine.registry import DATASETS

import xvit_det.datasets.tiny_imagenet  # noqa: F401  (registers it)
from xvit_det import InputError


def build(root, split: str = 'train', **more):
    return DATASETS.build(dict(type='TinyImageNet', data_root=str(root), split=split, _scope_='mmpretrain', **more))


def test_labels_are_numbered_in_the_order_of_wnids(tiny_imagenet_folder):
    train, val = build(tiny_imagenet_folder), build(tiny_imagenet_folder, 'val')
    assert train.metainfo['classes'] == ('goldfish, Carassius auratus', 'black stork, Ciconia nigra')
    assert [train.get_data_info(i)['gt_label'] for i in range(len(train))] == [0, 0, 0, 1, 1, 1]
    assert [val.get_data_info(i)['gt_label'] for i in range(len(val))] == [1, 0]  # of the annotation file
    for dataset, wnid in ((train, 'n02002724'), (val, 'val_0')):
        assert any(wnid in dataset.get_data_info(i)['img_path'] for i in range(len(dataset)))


def test_grey_pictures_have_three_channels(tiny_imagenet_folder):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    dataset = build(tiny_imagenet_folder, pipeline=pipeline)
    assert {tuple(sample['inputs'].shape) for sample in dataset} == {(3, 64, 64)}


def test_wrong_split_and_missing_files(tiny_imagenet_folder):
    with pytest.raises(InputError, match="train, val, not 'test'"):
        build(tiny_imagenet_folder, 'test')
    (tiny_imagenet_folder / 'tiny-imagenet-200' / 'wnids.txt').unlink()
    with pytest.raises(InputError, match='not an unpacked Tiny ImageNet: no .*wnids.txt'):
        build(tiny_imagenet_folder)


def test_validation_labels_that_are_not_listed(tiny_imagenet_folder):
    (tiny_imagenet_folder / 'tiny-imagenet-200' / 'wnids.txt').write_text('n01443537\n')
    assert set(build(tiny_imagenet_folder).get_gt_labels()) == {0}
    with pytest.raises(InputError, match='val_annotations.txt names classes that wnids.txt does not: n02002724'):
        build(tiny_imagenet_folder, 'val')


def test_importing_the_package_imports_neither_mmdet_nor_mmpretrain():
    code = 'import sys, xvit_det, xvit_det.datasets; print([m for m in ("mmdet", "mmpretrain") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'
