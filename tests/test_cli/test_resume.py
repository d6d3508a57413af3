"""Training that is stopped, killed or runs out of disk, and what ``train --resume`` makes of them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from xvit_det.cli.train import main as train
from xvit_det.config.resume import find_checkpoint
from xvit_det.engine import seeding
from xvit_det.engine.seeding import SeedIterations
from xvit_det.errors import InputError
from xvit_det.hub import find_config

TRAIN = Path(__file__).resolve().parents[2] / 'tools' / 'train.py'

# Images of 4 iterations in each epoch. Flips, dropped paths and the boxes that mmdet samples draw random numbers.
RANDOM = """
model['backbone']['drop_path_rate'] = 0.3
train_dataloader['batch_size'] = {batch}
train_dataloader['num_workers'] = {workers}
train_dataloader['persistent_workers'] = {workers} > 0
pipeline.insert(-1, dict(type='RandomFlip', prob=0.5))
default_hooks = dict(logger=dict(interval=1))
train_cfg.update(max_epochs=2)
"""
BY_ITERATION = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=8, val_interval=3)
train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1))
"""


@pytest.fixture
def random_config(cifar_config: str) -> Callable[..., str]:
    """``random_config(workers, more='...')``: a classifier's training in which much is random, also its seed."""

    def write(workers: int = 0, more: str = '') -> str:
        with open(cifar_config, 'a') as file:
            file.write(RANDOM.format(batch=2, workers=workers) + more)
        return cifar_config

    return write


@pytest.fixture
def slow_config(coco_folder, write_config) -> str:
    """A detector's training, for processes of their own."""
    return write_config(coco_folder, RANDOM.format(batch=1, workers=0))


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_equal(first: Path, second: Path) -> None:
    a, b = load(first), load(second)
    assert (a['meta']['epoch'], a['meta']['iter']) == (b['meta']['epoch'], b['meta']['iter'])
    torch.testing.assert_close((a['state_dict'], a['optimizer']), (b['state_dict'], b['optimizer']), rtol=0, atol=0)


def run(config: str, folder: Path, *options: str) -> Path:
    train([config, '--data-root', 'cifar', '--work-dir', str(folder), *options])
    return folder


def resume_copy(config: str, checkpoint: Path, name: str) -> Path:
    """Go on from one of a training's checkpoints, in another folder."""
    folder = checkpoint.parent.with_name(name)
    folder.mkdir()
    shutil.copy(checkpoint, folder)
    return run(config, folder, '--resume')


@pytest.mark.parametrize('workers', [0, 2])
def test_resumed_equals_uninterrupted(workers, random_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = random_config(workers)
    straight = run(config, tmp_path / 'straight')
    resumed = resume_copy(config, straight / 'epoch_1.pth', 'resumed')
    assert_equal(straight / 'epoch_2.pth', resumed / 'epoch_2.pth')

    monkeypatch.setattr(seeding, 'set_seed', lambda *numbers: None)
    control = resume_copy(config, straight / 'epoch_1.pth', 'control')
    with pytest.raises(AssertionError):
        assert_equal(straight / 'epoch_2.pth', control / 'epoch_2.pth')


@pytest.mark.parametrize('workers', [0, 2])
def test_training_by_iterations_resumes_at_any(workers, random_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = random_config(workers, BY_ITERATION)
    straight = run(config, tmp_path / 'straight')
    resumed = resume_copy(config, straight / 'iter_3.pth', 'resumed')
    assert_equal(straight / 'iter_8.pth', resumed / 'iter_8.pth')


def test_the_shipped_schedule_by_iterations_resumes_at_any(coco_folder, write_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = Config.fromfile(find_config('mask_rcnn_xvit_s_270k')).to_dict()
    loader = {name: shipped['train_dataloader'][name] for name in ('sampler', 'batch_sampler')}
    schedule = ('train_cfg', 'param_scheduler', 'log_processor', 'default_hooks')
    lines = [RANDOM.format(batch=2, workers=0), *(f'{name} = {shipped[name]!r}' for name in schedule)]
    config = write_config(coco_folder, '\n'.join([*lines, f'train_dataloader.update({loader!r})']))
    options = ('--cfg-options', 'train_cfg.max_iters=7', 'train_cfg.val_interval=7')
    options += ('default_hooks.checkpoint.interval=3', 'default_hooks.checkpoint.max_keep_ckpts=9')
    for name in ('straight', 'resumed'):
        if name == 'resumed':
            (tmp_path / name).mkdir()
            shutil.copy(tmp_path / 'straight' / 'iter_3.pth', tmp_path / name)
        train([config, '--work-dir', str(tmp_path / name), '--resume', *options])
    assert_equal(tmp_path / 'straight' / 'iter_6.pth', tmp_path / 'resumed' / 'iter_6.pth')


@pytest.mark.parametrize(('workers', 'iteration'), [(0, 2), (2, 5)])
def test_an_epoch_goes_on_where_it_was_stopped(workers, iteration, random_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = random_config(workers, 'randomness = dict(seed=1)\n')
    straight = run(config, tmp_path / 'straight')
    before = SeedIterations.before_train_iter

    def terminate(self, runner, *args, **kwargs):
        if runner.iter == iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        before(self, runner, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(SeedIterations, 'before_train_iter', terminate)
        run(config, tmp_path / 'stopped')
    assert stopped.value.code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert load(tmp_path / 'stopped' / 'interrupted.pth')['meta']['iter'] == iteration + 1
    run(config, tmp_path / 'stopped', '--resume')
    assert_equal(straight / 'epoch_2.pth', tmp_path / 'stopped' / 'epoch_2.pth')


def start(config: str, folder: Path, *options: str, limit: str = 'unlimited') -> subprocess.Popen:
    """``tools/train.py`` in a process of its own; ``limit``: the size of files in blocks of 1 KiB."""
    command = f'ulimit -f {limit}; exec "$@"'
    words = [sys.executable, str(TRAIN), config, '--work-dir', str(folder), *options]
    environment = os.environ | dict(OMP_NUM_THREADS='1')
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # A test run in the background of a shell ignores Ctrl-C, and so would its children.
    listening = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen(['bash', '-c', command, 'bash', *words], env=environment, **pipes, **listening)


def wait_for(text: str, process: subprocess.Popen) -> None:
    """Read what a process prints until a text comes."""
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(process.stderr.read())


def test_sigterm_saves_and_says_so(slow_config, tmp_path):
    process = start(slow_config, tmp_path / 'work')
    wait_for('[1][1/4]', process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    saved = tmp_path / 'work' / 'interrupted.pth'
    iteration = load(saved)['meta']['iter']
    assert process.returncode == 143 and 0 < iteration < 8
    assert (
        errors.splitlines()[-1]
        == f'Stopped by SIGTERM after iteration {iteration}; saved as {saved}. Go on with --resume.'
    )
    assert find_checkpoint(tmp_path / 'work')[0] == saved


def test_ctrl_c_names_the_last_checkpoint(slow_config, tmp_path):
    process = start(slow_config, tmp_path / 'work')
    wait_for('[2][1/4]', process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == (
        f'Stopped by Ctrl-C; the last checkpoint is {tmp_path / "work" / "epoch_1.pth"}. Go on with --resume.'
    )


def test_full_disk_keeps_the_last_checkpoint(slow_config, tmp_path):
    folder = tmp_path / 'work'
    train([slow_config, '--work-dir', str(folder), '--cfg-options', 'train_cfg.max_epochs=1'])
    before = (folder / 'epoch_1.pth').read_bytes()
    process = start(slow_config, folder, '--resume', limit='100')
    output, errors = process.communicate()
    assert process.returncode == 2
    assert f'error: {folder / "epoch_2.pth"} cannot be written: File too large' in errors and 'Traceback' not in errors
    assert (folder / 'epoch_1.pth').read_bytes() == before
    assert [path.name for path in folder.glob('epoch_2*')] == []


def test_one_checkpoint_is_kept_until_the_next_is_written(random_config, tmp_path, monkeypatch):
    save, seen = CheckpointHook._save_checkpoint_with_step, []

    def watch(self, runner, *args, **kwargs):
        save(self, runner, *args, **kwargs)
        seen.append(sorted(path.name for path in tmp_path.glob('work/epoch_*')))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CheckpointHook, '_save_checkpoint_with_step', watch)
    config = random_config(more="default_hooks['checkpoint'] = dict(type='CheckpointHook', max_keep_ckpts=1)\n")
    run(config, tmp_path / 'work', '--cfg-options', 'default_hooks.checkpoint.interval=1')
    assert seen == [['epoch_1.pth'], ['epoch_1.pth', 'epoch_2.pth']]
    assert [path.name for path in tmp_path.glob('work/epoch_*')] == ['epoch_2.pth']


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """A work folder with two checkpoints of a training, its best weights, and what is left of a third checkpoint."""
    folder = tmp_path / 'work'
    folder.mkdir()
    for epoch in (1, 2):
        torch.save(dict(meta=dict(epoch=epoch, iter=epoch), optimizer={}), folder / f'epoch_{epoch}.pth')
        time.sleep(0.01)
    torch.save(dict(meta=dict(epoch=2, iter=2), state_dict={}), folder / 'best_epoch_2.pth')
    (folder / 'epoch_3.pth.part').write_bytes(b'PK')
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))
    return folder


def test_the_named_checkpoint_is_found(checkpoints):
    path, content, problem = find_checkpoint(checkpoints)
    assert path.name == 'epoch_2.pth' and content['meta']['epoch'] == 2 and not problem


def test_the_named_checkpoint_is_found_in_a_folder_that_was_moved(checkpoints):
    os.utime(checkpoints / 'epoch_1.pth')  # copies may be of any time
    moved = checkpoints.rename(checkpoints.with_name('moved'))
    assert find_checkpoint(moved)[0] == moved / 'epoch_2.pth'


@pytest.mark.parametrize('note', [None, '', 'gone.pth', '\x00'])
def test_the_newest_checkpoint_is_found(note, checkpoints):
    (checkpoints / 'last_checkpoint').unlink()
    if note is not None:
        (checkpoints / 'last_checkpoint').write_text(note)
    path, _, problem = find_checkpoint(checkpoints)
    assert path.name == 'epoch_2.pth' and 'last_checkpoint' in problem


@pytest.mark.parametrize('damage', [b'', b'no checkpoint', None])
def test_a_damaged_checkpoint_is_passed_over(damage, checkpoints):
    last = checkpoints / 'epoch_2.pth'
    last.write_bytes(last.read_bytes()[:300] if damage is None else damage)
    path, _, problem = find_checkpoint(checkpoints)
    assert path.name == 'epoch_1.pth' and str(last) in problem
    (checkpoints / 'epoch_1.pth').write_bytes(b'')
    with pytest.raises(InputError, match='no checkpoint in .* can be used .* give another --work-dir'):
        find_checkpoint(checkpoints)


def test_a_folder_without_checkpoints(tmp_path):
    assert find_checkpoint(tmp_path) is None and find_checkpoint(tmp_path / 'none') is None


def test_what_resuming_says(random_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config, work, short = random_config(), tmp_path / 'work', ('--cfg-options', 'train_cfg.max_epochs=1')
    run(config, work, '--resume', *short)
    assert 'yet: from scratch' in capfd.readouterr().out
    run(config, work, '--resume', *short)
    assert capfd.readouterr().out.endswith('epoch_1.pth is of epoch 1 of 1: the training is finished.\n')
    (work / 'last_checkpoint').unlink()
    run(config, work, '--resume', '--cfg-options', 'train_dataloader.batch_size=4')
    screen = capfd.readouterr().out
    assert 'WARNING - --resume takes the newest checkpoint' in screen and 'there is no' in screen
    assert '1 x 2 images for each iteration, this one has 1 x 4' in screen
    run(config, tmp_path / 'tuned', '--resume', *short, f'load_from={work}/epoch_1.pth')
    assert f'yet: with the weights of {work}/epoch_1.pth' in capfd.readouterr().out
    run(config, work, *short)
    assert 'has checkpoints of an earlier training' in capfd.readouterr().out


def test_a_warmup_longer_than_the_training(cifar_config, tmp_path, capfd, monkeypatch):
    """The learning rate of the config is reached: 8 images in batches of 4, for 10 epochs, are 20 iterations."""
    monkeypatch.chdir(tmp_path)
    with open(cifar_config, 'a') as file:
        file.write(
            'param_scheduler = [dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=500)]\n'
            'train_cfg["max_epochs"] = 10\ndefault_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=10))\n'
        )
    folder = run(cifar_config, tmp_path / 'work')
    said = ''.join(capfd.readouterr())
    assert 'The warm-up of 500 iterations is longer than the training of 20: shortened to 2.' in said
    assert load(folder / 'epoch_10.pth')['optimizer']['param_groups'][0]['lr'] == 1e-3
