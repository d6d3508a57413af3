"""What commands say while nothing else is seen."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.hooks import LoggerHook

from xvit_det import stages
from xvit_det.coco import reading
from xvit_det.engine import progress


@pytest.fixture
def begun():
    stages.begin()
    yield
    stages.end()


def fire():
    """The seconds of silence are over."""
    stages._Speaker.timer.function(*stages._Speaker.timer.args)


def test_a_command_says_what_takes_long(begun, capsys):
    fire()
    stages.stage('Building the model')
    fire()
    assert capsys.readouterr().err == 'Importing PyTorch and OpenMMLab …\nBuilding the model …\n'
    stages.stage(None)
    assert stages._Speaker.timer is None


def test_python_code_says_nothing(capsys):
    stages.stage('Building the model')
    stages.stage('Reading', at_once=True)
    assert stages._Speaker.timer is None and capsys.readouterr().err == ''


def test_large_files_are_named_before_they_are_read(begun, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, 'LARGE', 10)
    (tmp_path / 'a.json').write_text('{"images": [], "categories": []}')
    reading.read_annotations(tmp_path / 'a.json')
    assert f'Reading {tmp_path}/a.json (0 MB) …' in capsys.readouterr().err


def test_only_the_first_process_speaks(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    stages.begin()
    assert stages._Speaker.timer is None


@pytest.mark.parametrize(('interval', 'lines'), [(50, 1), (2, 0)])
def test_the_time_left_is_told_once_unless_the_log_has_it(interval, lines, monkeypatch, caplog):
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))
    logger = logging.getLogger('progress')
    runner = SimpleNamespace(hooks=[LoggerHook(interval=interval)], logger=logger, max_iters=100, iter=0)
    hook = progress.EarlyProgress()
    with caplog.at_level('INFO'):
        hook.before_train_epoch(runner)
        for runner.iter in range(4):
            hook.after_train_iter(runner, runner.iter)
    told = [record.getMessage() for record in caplog.records]
    assert told == ['train: 2 iterations in 6 s, about 0:04:54 left for 98 more.'][:lines]
