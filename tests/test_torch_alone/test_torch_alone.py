"""The package in an environment without OpenMMLab, and without anything else that it does not require."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from xvit_det import XViT
from xvit_det.cli import COMMANDS
from xvit_det.errors import INSTALL_OPENMMLAB
from xvit_det.kernels import linear_trial

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
ARCH = dict(embed_dims=16, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)

pytestmark = pytest.mark.heavy


def succeed(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_has_pytorch_alone(alone):
    code = """
from importlib.util import find_spec
for name in ('mmengine', 'mmcv', 'mmdet', 'numpy', 'rich', 'PIL', 'torchvision', 'timm', 'pytest'):
    assert find_spec(name) is None, name
assert find_spec('torch') and find_spec('xvit_det')
"""
    succeed(alone('-c', code))


def equal(ours: Any, theirs: Any) -> bool:
    return torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def test_every_backbone_and_mixer_computes_the_same(alone, tmp_path, monkeypatch):
    monkeypatch.setenv(linear_trial.VARIABLE, 'torch')  # a trial may choose differently in two processes
    torch.manual_seed(1)
    weights = XViT(arch=ARCH).state_dict()
    torch.save(weights, tmp_path / 'weights.pth')
    safetensors.torch.save_file(weights, tmp_path / 'weights.safetensors')
    worker = HERE / 'worker.py'
    here = os.environ | dict(PYTHONPATH=str(REPO), OMP_NUM_THREADS='1')
    subprocess.run([sys.executable, worker, tmp_path, tmp_path / 'here.pt'], env=here, check=True)
    succeed(alone(worker, tmp_path, tmp_path / 'alone.pt'))
    ours, theirs = torch.load(tmp_path / 'here.pt'), torch.load(tmp_path / 'alone.pt')
    assert ours.keys() == theirs.keys() and len(ours) > 140
    for name, values in ours.items():
        assert all(map(equal, values, theirs[name])) and len(values) == len(theirs[name]), name


def test_the_log_says_what_is_missing(alone, tmp_path):
    weights = XViT(arch=ARCH).state_dict()
    del weights['blocks.1.norm1.weight']
    torch.save(weights, tmp_path / 'weights.pth')
    code = f"""
import xvit_det
model = xvit_det.XViT(arch={ARCH}, init_cfg=dict(type='Pretrained', checkpoint={str(tmp_path / 'weights.pth')!r}))
model.init_weights()
assert model.is_init
"""
    done = alone('-c', code)
    succeed(done)
    assert done.stderr.splitlines()[-1] == 'XViT: missing, trained from scratch: blocks.1.norm1.weight'


def test_what_needs_openmmlab_says_so(alone):
    code = """
import xvit_det
for act in (
    lambda: xvit_det.create_model('mask_rcnn_xvit_s_3x'),
    lambda: xvit_det.load('checkpoint.pth'),
    lambda: xvit_det.create_model('xvit_s_in2k'),
    lambda: xvit_det.XViT(arch='tiny', init_cfg=dict(type='Kaiming')).init_weights(),
):
    try:
        act()
    except (ModuleNotFoundError, xvit_det.InputError) as error:
        print(type(error).__name__, error)
"""
    no_model, no_load, no_name, no_initializer = succeed(alone('-c', code)).splitlines()
    assert no_model == f'ModuleNotFoundError create_model needs mmengine: {INSTALL_OPENMMLAB}'
    assert no_load == f'ModuleNotFoundError load needs mmengine: {INSTALL_OPENMMLAB}'
    assert no_name.startswith("InputError no config 'xvit_s_in2k'; did you mean xvit_s_in1k")
    assert re.match(r"InputError init_cfg \[{'type': 'Kaiming'}\].* needs mmengine: install one", no_initializer)


RUN_COMMANDS = """
import sys
from xvit_det.cli import main
for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as done:
        print(command, '->', done.code or 0)
"""


def test_commands_that_need_openmmlab_say_so(alone):
    commands = ['train x', 'test x y', 'convert x', 'look x y', 'linearize x y --mixer xnorm', 'models']
    commands += ['benchmark speed --models xvit_s', 'paper-tables', 'shapes x', 'predict x --checkpoint y']
    done = alone('-c', RUN_COMMANDS, *commands)
    assert done.stdout.splitlines() == [f'{command} -> 2' for command in commands]
    lines = [line for line in done.stderr.splitlines() if 'error' in line]
    assert len(lines) == len(commands)
    assert all(line.startswith('error: this command needs ') and line.endswith(INSTALL_OPENMMLAB) for line in lines)


def test_other_commands_work(alone):
    commands = ['models --names', 'env', *(f'{name} --help' for name in COMMANDS if name != 'shapes')]
    shown = succeed(alone('-c', RUN_COMMANDS, *commands))
    assert re.findall(r'^(.*) -> 0$', shown, re.MULTILINE) == commands
    assert 'mask_rcnn_xvit_s_3x' in shown
    assert f'backbones        yes  torch {torch.__version__}' in shown and 'detection        no' in shown


def test_the_page_about_it(alone):
    page = (REPO / 'docs' / 'interop.md').read_text()
    (code,) = re.findall(r'^## PyTorch alone\n.*?```python\n(.*?)```', page, re.MULTILINE | re.DOTALL)
    assert '[(1, 192, 120, 160), ' in succeed(alone('-c', code))


def test_torchvision_and_timm_without_openmmlab(make_environment):
    code = """
import timm, torch
import xvit_det.interop.timm
from importlib.util import find_spec
from xvit_det.interop.torchvision import retinanet
assert find_spec('mmengine') is None
print(timm.create_model('xvit_tiny', num_classes=5).eval()(torch.zeros(1, 3, 64, 64)).shape)
print(*retinanet('xvit_t', num_classes=3, min_size=64).eval()([torch.zeros(3, 64, 64)])[0])
"""
    shown = succeed(make_environment('torch', 'safetensors', 'torchvision', 'timm')('-c', code))
    assert shown.splitlines() == ['torch.Size([1, 5])', 'boxes scores labels']
