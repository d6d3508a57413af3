"""Training in two processes (gloo, CPU) is training in one with the batches put together."""

import os
import subprocess
import sys
from pathlib import Path

import torch

REPO = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name('ddp_worker.py')


def test_two_processes_give_the_gradients_of_one(tmp_path):
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join([str(REPO), *sys.path]))
    subprocess.run([sys.executable, WORKER, tmp_path / 'one.pth'], check=True, env=environment)
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    subprocess.run([*torchrun, WORKER, tmp_path / 'two.pth'], check=True, env=environment)
    one, two = (torch.load(tmp_path / f'{name}.pth', weights_only=True) for name in ('one', 'two'))
    assert one.keys() == two.keys() and all(grad is not None for grad in one.values())
    for name, grad in one.items():
        assert grad.abs().max() > 0, name
        torch.testing.assert_close(two[name], grad, rtol=1e-4, atol=1e-6 * grad.abs().max().item() + 1e-8, msg=name)
