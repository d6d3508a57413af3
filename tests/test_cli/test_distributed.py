"""The launch scripts: two processes on CPUs train and test one model."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from torch.distributed.elastic.utils.distributed import get_free_port

from xvit_det.cli.train import main as train

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def test_two_processes_train_and_test(coco_folder, write_config, tool, tmp_path):
    config = write_config(coco_folder, 'train_cfg.update(max_epochs=1, val_interval=1)\n')
    trained = tool('dist_train.sh', config, '2', '--work-dir', 'work', cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert '[1][1/1]' in trained.stdout  # 4 images are one iteration, of 2 in each of 2 processes
    assert 'batch 2 x 2 on cpu' in trained.stdout and trained.stdout.count('Training ') == 1

    tested = tool('dist_test.sh', config, 'work/epoch_1.pth', '2', cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr
    assert tested.stdout.count('a paper, Table 2') == 1


def test_a_mistake_is_told_once_and_stops_all(coco_folder, write_config, tool, tmp_path):
    (coco_folder / 'train' / '3.png').unlink()
    done = tool('dist_train.sh', write_config(coco_folder), '2', cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count('error: ') == 1 and '[rank' not in done.stderr  # torchrun's own report has neither


@pytest.fixture
def two_processes(coco_folder, write_config, tmp_path) -> Iterator[tuple[subprocess.Popen, list[int]]]:
    """The launcher of a training that goes on for long in two processes, and the ids of these, by rank."""
    config = write_config(coco_folder, 'train_cfg.update(max_epochs=1000, val_interval=1000)\n')
    command = ['bash', str(TOOLS / 'dist_train.sh'), config, '2', '--work-dir', 'work']
    environment = os.environ | dict(PYTHON=sys.executable, PORT=str(get_free_port()), OMP_NUM_THREADS='1')
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    launcher = subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)
    next(line for line in launcher.stdout if '[2][1/1]' in line)
    children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(launcher.pid)], capture_output=True, text=True)
    ranks = sorted(int(pid) for pid in children.stdout.split())
    yield launcher, ranks
    for pid in (launcher.pid, *ranks):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_process_is_named_and_ends_all(two_processes):
    launcher, ranks = two_processes
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = launcher.communicate(timeout=60)
    assert errors.endswith('error: rank 1 was killed by SIGKILL; the other processes were stopped\n'), errors
    assert errors.count('error: ') == 1 and 'Traceback' not in errors
    assert launcher.returncode == 137


def runs(pid: int) -> bool:
    state = subprocess.run(['ps', '-o', 'state=', '-p', str(pid)], capture_output=True, text=True).stdout.strip()
    return state not in ('', 'Z')


def test_a_killed_launcher_leaves_no_orphans(two_processes, tmp_path):
    launcher, ranks = two_processes
    launcher.kill()
    end = time.monotonic() + 30
    while any(map(runs, ranks)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in ranks if runs(pid)]
    assert (tmp_path / 'work' / 'interrupted.pth').is_file()


GROUP = dict(RANK='0', WORLD_SIZE='2', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='29999')


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        (dict(RANK='2'), 'RANK=2 in the environment is not below WORLD_SIZE=2'),
        (dict(RANK='-1'), "RANK='-1' in the environment is not a whole number"),
        (dict(WORLD_SIZE='two'), "WORLD_SIZE='two' in the environment is not a whole number"),
        (dict(MASTER_ADDR=None), 'finds no MASTER_ADDR in the environment'),
        (dict(MASTER_ADDR=None, MASTER_PORT=None), 'finds no MASTER_ADDR and no MASTER_PORT in the environment'),
    ],
)
def test_wrong_launcher_variables(variables, message, coco_folder, write_config, monkeypatch, capsys):
    for name, value in (GROUP | variables).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        train([write_config(coco_folder), '--launcher', 'pytorch'])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and 'tools/dist_train.sh' in error and error.count('\n') == 1


def test_a_port_in_use(coco_folder, write_config, monkeypatch, capsys):
    with socket.create_server(('127.0.0.1', 0)) as server:
        for name, value in (GROUP | dict(MASTER_PORT=str(server.getsockname()[1]))).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as stopped:
            train([write_config(coco_folder), '--launcher', 'pytorch'])
    assert stopped.value.code == 2 and 'the port is in use; choose another with PORT' in capsys.readouterr().err


def test_slurm_scripts_hand_everything_over(tmp_path, tool, monkeypatch):
    """With a srun that prints what it is given."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setenv('GPUS', '16')
    trained = tool('slurm_train.sh', 'gpu', 'job', 'c.py', '--amp', cwd=tmp_path).stdout.split('\n')
    assert trained[trained.index('--ntasks') + 1] == '16' and trained[trained.index('--gres') + 1] == 'gpu:8'
    assert trained[-6:] == [str(TOOLS / 'train.py'), 'c.py', '--launcher', 'slurm', '--amp', '']
    tested = tool('slurm_test.sh', 'gpu', 'job', 'c.py', 'c.pth', '--tta', cwd=tmp_path).stdout.split('\n')
    assert tested[-7:] == [str(TOOLS / 'test.py'), 'c.py', 'c.pth', '--launcher', 'slurm', '--tta', '']
