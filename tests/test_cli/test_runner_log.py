"""What OpenMMLab logs, as it appears on the screen."""

import logging

import pytest

from xvit_det.cli.runner import NOTHING_FOUND, _for_the_screen


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord('mmengine', level, 'coco_metric.py', 1, message, (), None)


@pytest.mark.parametrize('message', ['bbox_mAP_copypaste: 0.1 0.2', 'Config:\nmodel = dict()'])
def test_noise_goes_to_the_file_only(message):
    assert not _for_the_screen(record(message))
    assert _for_the_screen(record('Epoch(val) [1][2/2]  coco/bbox_mAP: 0.1'))


def test_an_evaluation_without_objects_is_no_error():
    from mmdet.evaluation.metrics import coco_metric

    with open(coco_metric.__file__) as file:
        assert NOTHING_FOUND in file.read()  # as mmdet words it
    entry = record(NOTHING_FOUND, logging.ERROR)
    assert _for_the_screen(entry)
    assert entry.levelname == 'WARNING'
    assert 'Nothing was found' in entry.getMessage()
