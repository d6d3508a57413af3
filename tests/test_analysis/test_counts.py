"""MACs of whole detectors are those of the layers that run in a prediction."""

import pytest
import torch
from mmdet.structures import DetDataSample
from torch.utils.flop_counter import FlopCounterMode

from xvit_det import create_model
from xvit_det.analysis.counts import count_detector_macs, count_macs

SIZE = (96, 160)


def test_two_stage_detector_counts_its_regions():
    detector = create_model('mask_rcnn_xvit_shapes').eval()
    regions = {}
    for name in ('bbox_head', 'mask_head'):
        head = getattr(detector.roi_head, name)
        head.register_forward_pre_hook(lambda _, given, name=name: regions.update({name: len(given[0])}))
    sample = DetDataSample(
        metainfo=dict(img_shape=SIZE, ori_shape=SIZE, batch_input_shape=SIZE, scale_factor=(1.0, 1.0))
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        detector(torch.randn(1, 3, *SIZE), [sample], mode='predict')
    detector.test_cfg.rpn.max_per_img = regions['bbox_head']
    detector.test_cfg.rcnn.max_per_img = regions['mask_head']
    assert regions['mask_head'] > 0
    assert count_detector_macs(detector, SIZE) == counter.get_total_flops() // 2
    detector.test_cfg.rcnn.max_per_img += 1
    assert count_detector_macs(detector, SIZE) > counter.get_total_flops() // 2


@pytest.mark.parametrize('name', ['retinanet_xvit_s_1x', 'cascade_mask_rcnn_xvit_s_1x'])
def test_detector_takes_more_than_its_backbone(name):
    detector = create_model(name)
    assert count_detector_macs(detector, SIZE) > 1.5 * count_macs(detector.backbone, SIZE)


def test_transformer_detectors_are_not_counted():
    assert count_detector_macs(create_model('dino_xvit_s_12e')) is None
