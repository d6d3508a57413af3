"""The checks before training accept true COCO, CIFAR-10 and Tiny ImageNet under the shipped configs."""

import shutil
import subprocess
import sys

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from xvit_det.config.data_check import check_data
from xvit_det.config.load import load_config


def checked(name: str, data_root: str) -> tuple[Config, dict[str, int]]:
    """The config as the commands load it, and what the check of its data returns."""
    cfg = load_config(name, data_root=data_root)
    return cfg, check_data(cfg, ('train', 'val', 'test'))


@pytest.mark.parametrize('name', ['mask_rcnn_xvit_s_3x', 'dino_xvit_s_12e'])
def test_photographs_of_coco(coco_tiny, name):
    assert checked(name, str(coco_tiny))[1] == dict(train=80, val=80, test=80)


def labels(cfg: Config, split: str) -> list[int]:
    dataset = DATASETS.build({**cfg[f'{split}_dataloader'].dataset, '_scope_': 'mmpretrain'})
    assert tuple(dataset[0]['inputs'].shape) == (3, *[cfg.model.backbone.img_size] * 2)
    return list(dataset.get_gt_labels())


def test_cifar10(real_data, tmp_path):
    folder = real_data('cifar10')
    subprocess.run([sys.executable, folder / 'rebuild.py', folder, tmp_path], check=True, stdout=subprocess.DEVNULL)
    cfg, _ = checked('hybrid_vin_cifar10', str(tmp_path / 'cifar-10-batches-py'))
    found = labels(cfg, 'test')
    shutil.rmtree(tmp_path / 'cifar-10-batches-py')  # 180 MB
    assert [found.count(i) for i in range(10)] == [1000] * 10
    assert found[:5] == [3, 8, 8, 0, 6]  # cat, ship, ship, airplane, frog


def test_tiny_imagenet(real_data):
    cfg, _ = checked('vin_tinyimagenet', str(real_data('tiny_imagenet_mini') / 'tiny-imagenet-200'))
    for split, count in (('train', 150), ('val', 30)):
        found = labels(cfg, split)
        assert [found.count(i) for i in range(10)] == [count] * 10
