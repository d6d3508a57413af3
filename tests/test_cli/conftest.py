"""Small true inputs for the commands: a drawn COCO folder, a drawn CIFAR folder, and configs that take seconds."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.visualization import Visualizer
from PIL import Image
from torch.distributed.elastic.utils.distributed import get_free_port

REPO = Path(__file__).resolve().parents[2]
CLASSES = ('square', 'bar')

BACKBONE = """dict(
    type='XViT', out_type={out_type!r}, init_cfg=None,
    arch=dict(embed_dims=32, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0))"""

DETECTION = """
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['xvit_det'], allow_failed_imports=False)
model = dict(
    backbone=dict(_delete_=True, **{backbone}),
    neck=dict(in_channels=[32] * 4, out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16), mask_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=2),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1, num_classes=2)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=32), rcnn=dict(sampler=dict(num=16))),
    test_cfg=dict(rpn=dict(max_per_img=32), rcnn=dict(max_per_img=8)))
data_root = {root!r}
metainfo = dict(classes=('square', 'bar'))
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
common = dict(type='CocoDataset', data_root=data_root, metainfo=metainfo, pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='RepeatDataset', times=1, dataset=dict(
        ann_file='annotations/train.json', data_prefix=dict(img='train/'), **common)))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='annotations/val.json', data_prefix=dict(img='val/'), test_mode=True, **common))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
optim_wrapper = dict(type='AutoAmpOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=1))
paper = dict(bbox_mAP=44.6, segm_mAP=40.4, source='a paper, Table 2')
"""

CLASSIFICATION = """
_base_ = ['mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['xvit_det'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier', backbone={backbone},
    head=dict(type='LinearClsHead', num_classes=10, in_channels=32, loss=dict(type='CrossEntropyLoss')))
data_preprocessor = dict(num_classes=10, mean=[128.0] * 3, std=[64.0] * 3, to_rgb=False)
pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CIFAR10', data_root={root!r}, split='train', pipeline=pipeline))
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CIFAR10', data_root={root!r}, split='test', pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
val_cfg = dict()
test_cfg = dict()
"""


@pytest.fixture(autouse=True)
def fresh_visualizers() -> None:
    """Forget earlier tests' runs: mmdet's hook draws with the newest visualizer of the process, by order of names."""
    Visualizer._instance_dict.clear()


def draw_coco(folder: Path, names: tuple[str, ...] = CLASSES) -> Path:
    """Write a COCO folder of 4 training and 2 validation images, each with one bright rectangle of each class."""
    rng = np.random.default_rng(0)
    (folder / 'annotations').mkdir(parents=True)
    for split, count in (('train', 4), ('val', 2)):
        (folder / split).mkdir()
        images, annotations = [], []
        for i in range(count):
            pixels = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
            for category, (w, h) in enumerate([(16, 16), (24, 8)], start=1):
                x, y = int(rng.integers(0, 20)) + 20 * (category - 1), int(rng.integers(0, 32))
                pixels[y : y + h, x : x + w, category - 1] = 255
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append(
                    dict(id=len(annotations) + 1, image_id=i, category_id=category, bbox=[x, y, w, h], area=w * h)
                    | dict(iscrowd=0, segmentation=[polygon])
                )
            Image.fromarray(pixels).save(folder / split / f'{i}.png')
            images.append(dict(id=i, file_name=f'{i}.png', width=64, height=48))
        categories = [dict(id=i, name=name) for i, name in enumerate(names, start=1)]
        content = dict(images=images, annotations=annotations, categories=categories)
        (folder / 'annotations' / f'{split}.json').write_text(json.dumps(content))
    return folder


@pytest.fixture(name='draw_coco')
def give_draw_coco() -> Callable[..., Path]:
    return draw_coco


@pytest.fixture
def coco_folder(tmp_path: Path) -> Path:
    return draw_coco(tmp_path / 'coco')


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., str]:
    """``write_config(root, more='...')``: a Mask R-CNN config for a folder as :func:`draw_coco` writes it."""

    def write(root: Path | str, more: str = '', name: str = 'tiny') -> str:
        path = tmp_path / f'{name}.py'
        text = DETECTION.format(backbone=BACKBONE.format(out_type='pyramid'), root=f'{root}/')
        path.write_text(text + more)
        return str(path)

    return write


@pytest.fixture
def cifar_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with a CIFAR-10 of 8 images, for training and for testing, in CIFAR's own file format."""
    from mmpretrain.datasets import CIFAR10

    rng = np.random.default_rng(0)
    folder = tmp_path / 'cifar' / CIFAR10.base_folder
    folder.mkdir(parents=True)
    batch = dict(data=rng.integers(0, 255, (8, 3072), dtype=np.uint8), labels=list(range(8)))
    (folder / 'batch').write_bytes(pickle.dumps(batch))
    monkeypatch.setattr(CIFAR10, 'train_list', [['batch', None]])
    monkeypatch.setattr(CIFAR10, 'test_list', [['batch', None]])
    monkeypatch.setattr(CIFAR10, '_check_integrity', lambda self: True)  # the check sums are of the real files
    monkeypatch.setattr(CIFAR10, '_load_meta', lambda self: None)
    return folder.parent


@pytest.fixture
def cifar_config(tmp_path: Path, cifar_folder: Path) -> str:
    """A config for CIFAR-10 with a backbone that takes no time, for ``--data-root cifar``."""
    path = tmp_path / 'cifar.py'
    path.write_text(CLASSIFICATION.format(backbone=BACKBONE.format(out_type='cls_token'), root='data/cifar10'))
    return str(path)


@pytest.fixture
def tool() -> Callable[..., subprocess.CompletedProcess]:
    """``tool('train.py', *argv, cwd=...)``: run a file of ``tools/`` as a user would."""

    def run(name: str, *argv: str, cwd: Path) -> subprocess.CompletedProcess:
        line = [sys.executable] if name.endswith('.py') else ['bash']
        environment = os.environ | dict(PYTHON=sys.executable, PORT=str(get_free_port()))
        command = [*line, str(REPO / 'tools' / name), *argv]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)

    return run
