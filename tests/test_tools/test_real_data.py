"""The checks before training accept true COCO under the shipped configs."""

from argparse import Namespace

import pytest

from xvit_det.engine.cli import load_config
from xvit_det.engine.data_check import check_data


@pytest.mark.parametrize('name', ['mask_rcnn_xvit_s_3x', 'dino_xvit_s_12e'])
def test_photographs_of_coco(coco_tiny, name):
    options = dict(cfg_options=None, work_dir=None, launcher='none', local_rank=0)
    cfg = load_config(Namespace(config=name, data_root=str(coco_tiny), **options))
    assert check_data(cfg, ('train', 'val', 'test')) == dict(train=80, val=80, test=80)
