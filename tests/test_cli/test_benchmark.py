"""``tools/benchmark.py`` as users run it, and its two subcommands on whole configs."""

import json

import pytest

from xvit_det.benchmark.detector import Stopwatch
from xvit_det.benchmark.loader import verdict
from xvit_det.cli.benchmark import main

SHORT = ('--repeats', '2', '--threads', '1')


def test_from_a_bare_clone(tool, tmp_path):
    argv = ['speed', '--models', 'xvit_t', '--sizes', '32', *SHORT, '--json', 'out.json']
    done = tool('benchmark.py', *argv, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'xvit_t' in done.stdout and len(json.loads((tmp_path / 'out.json').read_text())['rows']) == 1


def test_loader_beside_the_model(write_config, coco_folder, tmp_path, capsys):
    path = tmp_path / 'loader.json'
    config = write_config(coco_folder)
    main(['loader', config, '--workers', '0', '1', '--batches', '3', *SHORT, '--json', str(path)])
    rows = json.loads(path.read_text())['rows']
    assert [(row['workers'], row['batch']) for row in rows] == [(0, 2), (1, 2)]
    for row in rows:
        assert row['feeds'] == pytest.approx(row['images_per_s'] / row['model_images_per_s'], rel=0.02, abs=1e-3)
    assert verdict(rows) in capsys.readouterr().out


def test_loader_of_a_classifier(cifar_config, cifar_folder, tmp_path):
    path = tmp_path / 'loader.json'
    argv = ['loader', cifar_config, '--data-root', str(cifar_folder), '--workers', '0', '--batches', '2', *SHORT]
    main([*argv, '--json', str(path)])
    (row,) = json.loads(path.read_text())['rows']
    assert row['batch'] == 4


@pytest.mark.parametrize(('feeds', 'sentence'), [((0.2, 1.1), 'from 4 workers on'), ((0.2, 0.7), 'deliver 70%')])
def test_verdict(feeds, sentence):
    rows = [dict(workers=workers, feeds=f) for workers, f in zip((0, 4), feeds, strict=True)]
    assert sentence in verdict(rows)


def test_where_a_detectors_time_goes(write_config, coco_folder, tmp_path):
    path = tmp_path / 'detector.json'
    argv = ['detector', write_config(coco_folder), *SHORT, '--json', str(path)]
    main(argv)
    rows = json.loads(path.read_text())['rows']
    parts = {phase: {row['part'] for row in rows if row['phase'] == phase} for phase in ('training', 'test')}
    forward = {'data', 'data_preprocessor', 'backbone', 'neck', 'rpn_head', 'roi_head', 'predictions', 'other', 'total'}
    backward = {'losses', 'backward: heads, neck', 'backward: backbone', 'optimizer'}
    assert parts['training'] == forward | backward
    assert parts['test'] == forward
    for phase in parts:
        *those, total = [row for row in rows if row['phase'] == phase]
        assert sum(row['ms'] for row in those) == pytest.approx(total['ms'], rel=0.01)
        assert sum(row['share'] for row in those) == pytest.approx(1, abs=0.01)
        assert all(row['ms'] > 0 for row in those)


def test_a_classifier_is_no_detector(cifar_config, capsys):
    with pytest.raises(SystemExit) as stop:
        main(['detector', cifar_config])
    assert stop.value.code == 2 and 'no MMDetection config' in capsys.readouterr().err


def test_missing_data_is_said(write_config, capsys):
    for kind in ('loader', 'detector'):
        with pytest.raises(SystemExit) as stop:
            main([kind, write_config('nowhere')])
        assert stop.value.code == 2 and 'give the folder that has them with --data-root' in capsys.readouterr().err


def test_the_watch_stops_for_inner_parts(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 7.0, 15.0])
    monkeypatch.setattr('time.perf_counter', lambda: next(now))
    watch = Stopwatch()
    with watch.part('head'), watch.part('losses'):
        watch.rename('other losses')
    assert watch.seconds == {'head': 1 + 8, 'losses': 2, 'other losses': 4}
