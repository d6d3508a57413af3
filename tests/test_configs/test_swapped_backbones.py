"""Configs that put X-ViT into mmdet's own, and the one for a user's own data."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

ORIGINALS = {
    'faster_rcnn_xvit_s_1x': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'cascade_mask_rcnn_xvit_s_1x': 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'retinanet_xvit_s_1x': 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'dino_xvit_s_12e': 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
}


@pytest.mark.parametrize('name', ORIGINALS)
def test_only_backbone_channels_and_optimizer_differ(load, tmp_path, name):
    (tmp_path / 'original.py').write_text(f'_base_ = {ORIGINALS[name]!r}\n')
    original, swapped = Config.fromfile(tmp_path / 'original.py').to_dict(), load(name).to_dict()
    assert swapped['model']['backbone']['type'] == 'XViT'
    for cfg in (original, swapped):
        del cfg['model']['backbone'], cfg['model']['neck']['in_channels']
        cfg['model']['neck'].pop('start_level', None)  # the first of the maps that the neck takes
        for key in ('optim_wrapper', 'adamw', 'custom_imports'):
            cfg.pop(key, None)
    assert swapped == original


@pytest.mark.parametrize('name', [name for name in ORIGINALS if not name.startswith('dino')])
def test_optimizer_is_that_of_mask_rcnn(load, name):
    assert load(name).optim_wrapper == load('mask_rcnn_xvit_s_3x').optim_wrapper


def test_own_data_loads_with_its_own_classes(load, tmp_path):
    cfg = load('mask_rcnn_xvit_s_custom')
    assert cfg.num_classes == len(cfg.classes) == 2
    assert {head.num_classes for head in (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head)} == {2}
    for split, dataloader in (('train', cfg.train_dataloader), ('val', cfg.val_dataloader)):
        image, file = tmp_path / split / '1.jpg', tmp_path / f'{split}.json'
        image.parent.mkdir()
        cv2.imwrite(str(image), np.zeros((40, 60, 3), np.uint8))
        box = dict(bbox=[5, 5, 30, 30], area=900, iscrowd=0, segmentation=[[5, 5, 35, 5, 35, 35, 5, 35]])
        names = ['bird', 'cat', 'dog']  # one class more than is asked for
        coco = dict(
            images=[dict(id=1, file_name='1.jpg', width=60, height=40)],
            annotations=[dict(id=i, image_id=1, category_id=i, **box) for i in (1, 2, 3)],
            categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)],
        )
        file.write_text(json.dumps(coco))
        assert dataloader.dataset.ann_file == file.name
        dataset = DATASETS.build({**dataloader.dataset, 'data_root': str(tmp_path), '_scope_': 'mmdet'})
        assert dataset.metainfo['classes'] == ('cat', 'dog')
        assert [instance['bbox_label'] for instance in dataset.get_data_info(0)['instances']] == [0, 1]
    assert cfg.val_evaluator.ann_file == cfg.data_root + cfg.val_dataloader.dataset.ann_file
    assert cfg.test_dataloader == cfg.val_dataloader and cfg.test_evaluator == cfg.val_evaluator
