"""The launch scripts: two processes on CPUs train and test one model."""

import os
from pathlib import Path

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
