"""The demo from end to end, tiny: what it leaves, what its screen shows, and running it again."""

import json
import os
import re
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from mmengine.runner import Runner
from rich.console import Console

from xvit_det.cli import demo, demo_tasks, demo_training
from xvit_det.config.load import read_config

REPO = Path(__file__).resolve().parents[2]


def _run(folder, *options):
    command = [sys.executable, '-m', 'xvit_det', 'demo', '--work-dir', str(folder / 'work'), *options]
    command += ['--data-dir', str(folder / 'scenes'), '--images', '12', '--epochs', '1']
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


# Task: the printed name of each score by its key in metrics.json, and a loss in the log.
TASKS = {
    'context': ({'bbox_mAP': 'box mAP', 'segm_mAP': 'mask mAP'}, 'loss_rpn_cls'),
    'detection': ({'bbox_mAP': 'box mAP', 'segm_mAP': 'mask mAP'}, 'loss_rpn_cls'),
    'segmentation': ({'mIoU': 'mIoU'}, 'decode.loss_ce'),
}


@pytest.fixture(scope='module', params=TASKS)
def tiny(request, tmp_path_factory):
    """Task and folder of a demo that ran, and what it showed."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, _run(folder, '--task', request.param, '--processes', '2')


only_context = pytest.mark.parametrize('tiny', ['context'], indirect=True)


def test_demo_runs_and_shows_only_what_matters(tiny):
    task, folder, run = tiny
    scores, loss = TASKS[task]
    assert run.returncode == 0, run.stdout + run.stderr
    assert not [line for line in run.stderr.splitlines() if not line.endswith('…')]  # what takes seconds is said
    assert 'Drawing 12 + 4 scenes' in run.stdout
    assert re.search(r' on (cpu|cuda) in (float32|bfloat16), 1 epochs of', run.stdout)
    assert 'epoch 1/1  loss' in run.stdout
    for name in scores.values():
        assert len(re.findall(rf'\b{name} 0\.', run.stdout)) == 2, 'once for the epoch, once at the end'
    assert ('circle       IoU 0.' in run.stdout) == (task == 'segmentation')
    assert 'Warning' not in run.stdout and len(run.stdout.splitlines()) < 22
    for name in ('predictions.png', 'curve.png', 'metrics.json', 'checkpoint.pth'):
        assert str(folder / 'work' / name) in run.stdout.replace('\n', '')
    assert loss in (folder / 'work' / 'output.log').read_text()


@pytest.mark.parametrize('tiny', ['context', 'segmentation'], indirect=True)
def test_the_last_line_is_a_command_that_tries_the_checkpoint(tiny, tmp_path):
    _, folder, run = tiny
    command = run.stdout.splitlines()[-1]
    assert 'predict' in command and str(folder / 'work' / 'checkpoint.pth') in command
    done = subprocess.run(f'{command} --out {tmp_path}', shell=True, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '4 images in ' in done.stdout and len([*tmp_path.glob('*.png')]) == 4


@pytest.mark.parametrize('name, height, width', [('predictions.png', 250, 800), ('curve.png', 300, 500)])
def test_demo_leaves_pictures(tiny, name, height, width):
    image = cv2.imread(str(tiny[1] / 'work' / name))
    assert image.shape[0] > height and image.shape[1] > width
    assert image.std() > 10


def test_demo_leaves_figures_and_weights(tiny):
    task, folder, _ = tiny
    figures = json.loads((folder / 'work' / 'metrics.json').read_text())
    assert figures['epochs'] == 1 and figures['seed'] == 0 and figures['train_seconds'] > 0
    assert figures['iterations'] == figures['evaluations'][-1]['iteration'] > 0
    for kind in TASKS[task][0]:
        assert figures['metrics'][kind] == figures['evaluations'][-1][kind]
        assert 0 <= figures['metrics'][kind] <= 1
    assert (folder / 'work' / 'checkpoint.pth').stat().st_size > 1e6


@pytest.mark.parametrize('tiny', ['segmentation'], indirect=True)
def test_checkpoint_has_the_statistics_that_were_evaluated(tiny, tmp_path):
    """Each of the two processes has its own; in the file are those that gave the printed figures."""
    _, folder, _ = tiny
    cfg = read_config('semantic_fpn_xvit_shapes')
    cfg.test_dataloader.dataset.update(data_root=str(folder / 'scenes'), num_train=12, num_val=4)
    cfg.update(work_dir=str(tmp_path), load_from=str(folder / 'work' / 'checkpoint.pth'), log_level='ERROR')
    figures = json.loads((folder / 'work' / 'metrics.json').read_text())['metrics']
    tested = Runner.from_cfg(cfg).test()
    assert {name: value / 100 for name, value in tested.items()} == pytest.approx(figures, abs=2e-4)


@only_context
def test_demo_refuses_scenes_of_another_seed(tiny):
    run = _run(tiny[1], '--seed', '1')
    assert run.returncode == 2
    assert 'holds other Shapes' in run.stderr and 'Traceback' not in run.stderr


@pytest.mark.parametrize('option', ['--epochs', '--images'])
def test_demo_refuses_numbers_below_one(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        demo.main(['--work-dir', str(tmp_path), option, '0'])
    assert exit_.value.code == 2
    assert f'{option} must be at least 1, not 0' in capsys.readouterr().err


def test_segmentation_without_mmseg_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit) as exit_:
        demo.main(['--work-dir', str(tmp_path / 'work'), '--task', 'segmentation'])
    assert exit_.value.code == 2
    assert '--task segmentation needs mmseg, which is not installed' in capsys.readouterr().err
    assert not (tmp_path / 'work').exists()


def test_each_task_has_a_folder_and_the_command_knows_them_all(tmp_path, monkeypatch):
    assert demo.TASKS.keys() == demo_tasks.TASKS.keys() == TASKS.keys()
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_training, 'demo', ran.append)
    for task in TASKS:
        demo.main(['--task', task, '--processes', '1'])
    assert [args.task for args in ran] == [*TASKS] and len({args.work_dir for args in ran}) == len(TASKS)


def test_evaluation_without_a_single_prediction_counts_as_zero():
    runner = SimpleNamespace(iter=5, epoch=1, max_epochs=2, train_dataloader=[0] * 5)
    with demo_training._progress(Console(file=StringIO())) as progress:
        watch = demo_training._Watch(demo_tasks.TASKS['detection'], progress)
        watch.start, watch.losses = 0.0, [(5, 1.0)]
        watch.after_val_epoch(runner, metrics={})
    assert watch.evaluations == [dict(iteration=5, bbox_mAP=0.0, segm_mAP=0.0)]


@only_context
@pytest.mark.parametrize('processes', ['1', '2'])
def test_interrupted_demo_says_so_in_a_sentence(tiny, tmp_path, processes):
    command = [sys.executable, '-u', '-m', 'xvit_det', 'demo', '--processes', processes, '--images', '12']
    command += ['--work-dir', str(tmp_path), '--data-dir', str(tiny[1] / 'scenes'), '--epochs', '500']
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # A suite that was started in the background of a script has Ctrl-C ignored, and its children inherit that.
    listening = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    with subprocess.Popen(command, cwd=REPO, start_new_session=True, **pipes, **listening) as run:
        lines = []
        for line in run.stdout:
            lines.append(line)
            if 'epoch 1/500' in line:
                break
        assert not any('Drawing' in line for line in lines), 'the scenes of the first run are used again'
        os.killpg(run.pid, signal.SIGINT)  # as the terminal does, to all processes
        output, errors = run.communicate(timeout=60)
    assert run.returncode == 130, output + errors
    assert output.count('Stopped.') == 1
    assert 'Traceback' not in output + errors
