"""Whatever a user writes, a command ends with a result or with one sentence: wrong options, configs and checkpoints,
drawn at random.

``XVIT_DET_EXAMPLES=500`` draws that many cases for each test instead of a few, and pytest's option
``--hypothesis-show-statistics`` tells how they ended.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from xvit_det.cli.test import main as evaluate
from xvit_det.cli.train import main as train

EXAMPLES = int(os.environ.get('XVIT_DET_EXAMPLES', 12))
drawn = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],  # to shrink a failure would take minutes
    derandomize=EXAMPLES == 12,  # the same cases in every run, unless more are asked for
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

KEYS = [
    'default_hooks.checkpoint.interval',
    'default_hooks.logger.type',
    'default_scope',
    'load_from',
    'log_level',
    'model.backbone',
    'model.backbone.in_channels',
    'model.backbone.norm_cfg.type',
    'model.backbone.out_type',
    'model.head.num_classes',
    'model.head.type',
    'model.type',
    'optim_wrapper.accumulative_counts',
    'optim_wrapper.clip_grad.max_norm',
    'optim_wrapper.optimizer',
    'optim_wrapper.optimizer.betas',
    'optim_wrapper.optimizer.lr',
    'optim_wrapper.optimizer.type',
    'optim_wrapper.type',
    'param_scheduler',
    'randomness.seed',
    'train_cfg',
    'train_cfg.max_epochs',
    'train_cfg.type',
    'train_cfg.val_interval',
    'train_dataloader.batch_size',
    'train_dataloader.collate_fn.type',
    'train_dataloader.dataset.pipeline',
    'train_dataloader.dataset.pipeline.0.type',
    'train_dataloader.dataset.split',
    'train_dataloader.dataset.type',
    'train_dataloader.sampler.shuffle',
    'train_dataloader.sampler.type',
    'val_dataloader',
    'val_evaluator.topk',
    'val_evaluator.type',
]
VALUES = [
    '0',
    '-1',
    '1',
    '2.5',
    '1e30',
    'nan',
    'inf',
    'None',
    'True',
    '',
    'x',
    'fast',
    '(1,2',
    '[1,2]',
    '(1,2)',
    '[]',
    '"',
]
NAMES = ['AdamX', 'Adamw', 'ViX', 'ResNet', 'RandmFlip', 'Accuracy', 'CIFAR10', 'ImageClassifier', 'LinearClsHead']
LINES = [
    '{key} = {value}',
    "{key}s = dict(type='{name}')",
    "custom_hooks = [dict(type='{name}')]",
    "custom_imports = dict(imports=['{name}'])",
    "model['backbone'].update(type='{name}')",
    "pipeline.append(dict(type='{name}', probability={value}))",
    "param_scheduler = [dict(type='{name}', gamma={value})]",
    '{name}',
    'del {key}',
    'x = {value',
    '{key}[{value}] = {value}',
    "_base_ = ['{name}.py']",
]
TOP = [
    'model',
    'train_cfg',
    'optim_wrapper',
    'train_dataloader',
    'val_evaluator',
    'default_hooks',
    'work_dir',
    'resume',
]


@pytest.fixture
def ends_well(tmp_path, monkeypatch, capfd) -> Callable[..., int]:
    """``ends_well(main, *argv)``: run a command; it must end with a result, or with one sentence."""
    monkeypatch.chdir(tmp_path)

    def run(main: Callable[[list[str]], None], *argv: str) -> int:
        capfd.readouterr()
        status = 0
        try:
            main(list(argv))
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        output = capfd.readouterr()
        errors = [line for line in output.err.splitlines() if 'error: ' in line]
        assert status in (0, 1, 2), argv
        assert len(errors) == (status > 0), (argv, output.err[-2000:])
        assert 'Traceback' not in output.out + output.err and 'weights_only' not in output.err, argv
        event(f'exit status {status}')
        return status

    return run


@drawn
@given(pairs=st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES + NAMES)), min_size=1, max_size=2))
def test_options(ends_well, cifar_config, pairs):
    options = [f'{key}={value}' for key, value in pairs]
    ends_well(train, cifar_config, '--data-root', 'cifar', '--work-dir', 'work', '--cfg-options', *options)


@drawn
@given(
    line=st.sampled_from(LINES), key=st.sampled_from(TOP), value=st.sampled_from(VALUES), name=st.sampled_from(NAMES)
)
def test_configs(ends_well, cifar_config, line, key, value, name):
    for hole, text in dict(key=key, value=value, name=name).items():
        line = line.replace(f'{{{hole}}}', text)
    Path('wrong.py').write_text(f'{Path(cifar_config).read_text()}{line}\n')
    ends_well(train, 'wrong.py', '--data-root', 'cifar', '--work-dir', 'work')


@st.composite
def damage(draw: Callable[..., Any]) -> tuple[str, Callable[[dict, bytes], Any]]:
    """What a file holds instead of a checkpoint: bytes, or an object for ``torch.save``, from a sound one."""
    kind = draw(
        st.sampled_from(['cut', 'noise', 'text', 'flip', 'nan', 'part', 'wrapped', 'renamed', 'shape', 'object'])
    )
    share, number = draw(st.floats(0, 1)), draw(st.integers(0, 10**6))

    def change(checkpoint: dict, data: bytes) -> Any:
        weights = dict(checkpoint['state_dict'])
        name = list(weights)[number % len(weights)]
        at = number % len(data)
        return {
            'cut': lambda: data[: int(share * len(data))],
            'noise': lambda: os.urandom(number % 3000),
            'text': lambda: b'<html>' * (number % 3),
            'flip': lambda: data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :],
            'nan': lambda: weights | {name: torch.full_like(weights[name], torch.nan, dtype=torch.float32)},
            'part': lambda: dict(list(weights.items())[: int(share * len(weights))]),
            'wrapped': lambda: {['model', 'module', 'net', 'state_dict'][number % 4]: weights, 'epoch': number},
            'renamed': lambda: {['module.', 'backbone.', 'x.'][number % 3] + key: w for key, w in weights.items()},
            'shape': lambda: weights | {name: torch.zeros(number % 7, 3)},
            'object': lambda: [[weights], number, None, 'text', {}, {name: 'text'}, weights[name]][number % 7],
        }[kind]()

    return kind, change


@drawn
@given(damaged=damage(), use=st.sampled_from(['test', 'load_from', 'resume']))
def test_checkpoints(ends_well, cifar_config, damaged, use):
    common = ['--data-root', 'cifar', '--work-dir', 'work']
    sound = Path('work/epoch_1.pth')
    if not sound.exists():
        assert ends_well(train, cifar_config, *common) == 0
    content = damaged[1](torch.load(sound, weights_only=True), sound.read_bytes())
    if isinstance(content, bytes):
        Path('wrong.pth').write_bytes(content)
    else:
        torch.save(content, 'wrong.pth')
    common[-1] = 'other'
    if use == 'test':
        status = ends_well(evaluate, cifar_config, 'wrong.pth', *common)
    else:
        start = ['--resume', 'wrong.pth'] if use == 'resume' else ['--cfg-options', 'load_from=wrong.pth']
        status = ends_well(train, cifar_config, *common, *start)
    if damaged[0] == 'nan':
        assert status == 2
