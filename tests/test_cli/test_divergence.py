"""A training whose loss or weights are no longer finite stops, and what it saved before stays."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from xvit_det.cli.runner import build_runner
from xvit_det.cli.train import main as train
from xvit_det.config.load import load_config
from xvit_det.engine.divergence import MOST_SKIPPED, StopAtDivergence
from xvit_det.errors import RunError

# The learning rate leaps after the first epoch of two iterations.
LEAP = "param_scheduler = [dict(type='MultiStepLR', milestones=[1], gamma=1e35)]\n"


@HOOKS.register_module(force=True)
class SpoilLastStep(Hook):
    """A weight that overflows in the step after a finite loss."""

    priority = 'VERY_HIGH'

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 3:
            next(runner.model.parameters()).data.fill_(float('inf'))


@pytest.mark.parametrize('save', ['', 'default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1))\n'])
def test_a_loss_that_is_nan_stops_the_training(cifar_config, tmp_path, monkeypatch, capfd, save):
    monkeypatch.chdir(tmp_path)
    with open(cifar_config, 'a') as file:
        file.write(f'{LEAP}{save}train_cfg.update(max_epochs=9)\n')
    with pytest.raises(SystemExit) as stop:
        train([cifar_config, '--data-root', 'cifar', '--work-dir', 'work'])
    assert stop.value.code == 1
    (line,) = (line for line in capfd.readouterr().err.splitlines() if 'error: ' in line)
    assert 'the training diverged: loss is ' in line and 'lower learning rate' in line
    saved = sorted(Path('work').glob('*.pth'), key=lambda path: path.stat().st_mtime)
    assert f'finite weights is {tmp_path / saved[-1]}' in line
    for path in saved:
        weights = torch.load(path, weights_only=True)['state_dict'].values()
        assert all(weight.isfinite().all() for weight in weights)


def test_weights_that_overflow_are_not_saved(cifar_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with open(cifar_config, 'a') as file:
        file.write("custom_hooks = [dict(type='SpoilLastStep')]\ntrain_cfg.update(max_epochs=2)\n")
    with pytest.raises(SystemExit) as stop:
        train([cifar_config, '--data-root', 'cifar', '--work-dir', 'work'])
    assert stop.value.code == 1
    assert 'has values that are NaN or infinite' in capfd.readouterr().err
    assert [path.name for path in Path('work').glob('*.pth')] == ['epoch_1.pth']


def test_a_loss_scaler_may_leave_out_steps(tmp_path):
    scaler = SimpleNamespace(is_enabled=lambda: True)
    wrapper = SimpleNamespace(loss_scaler=scaler)
    runner = SimpleNamespace(optim_wrapper=wrapper, iter=0, work_dir=str(tmp_path), _resume=False)
    hook, inf = StopAtDivergence(), dict(loss=torch.tensor(float('inf')), accuracy=torch.tensor(0.5))
    for losses in (inf, dict(loss=torch.tensor(1.0)), *[inf] * (MOST_SKIPPED - 1)):
        hook.after_train_iter(runner, 0, outputs=losses)
    with pytest.raises(RunError, match='loss is inf in iteration 1; no checkpoint was saved before'):
        hook.after_train_iter(runner, 0, outputs=inf)


def test_another_projects_runner_is_guarded(cifar_config, cifar_folder, tmp_path):
    cfg = load_config(cifar_config, data_root=str(cifar_folder), work_dir=str(tmp_path / 'work'))
    cfg.runner_type = 'Runner'
    assert any(isinstance(hook, StopAtDivergence) for hook in build_runner(cfg).hooks)
