"""Reading mmengine's checkpoints as data only, in either family."""

import collections
import contextlib
import pickle
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from torch.utils.data import Dataset

from xvit_det.cli.common import command

REPO = Path(__file__).resolve().parents[2]


class Line(BaseModel):
    """Smallest model that a Runner trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, mode='loss'):
        return dict(loss=self.layer(x).square().mean())


class Ones(Dataset):
    METAINFO = dict(classes=('one',))
    metainfo = METAINFO

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return dict(x=torch.ones(1))


def build_runner(work_dir, epochs, resume):
    return Runner(
        Line(),
        str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            dataset=Ones(),
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=dict(type='MultiStepLR', milestones=[1]),
        experiment_name=f'line_{epochs}_{work_dir.name}',
        log_level='ERROR',
        resume=resume,
    )


def test_runner_resumes_safely(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    build_runner(tmp_path, 1, resume=False).train()
    runner = build_runner(tmp_path, 2, resume=True)
    runner.train()
    assert runner.epoch == 2 and runner.iter == 4
    scalars = runner.message_hub.log_scalars['train/loss']
    assert len(scalars.data[0]) == 4  # two logged before, two after


def test_data_types_of_checkpoints(tmp_path):
    content = dict(
        history=HistoryBuffer([1.0, 2.0], [1, 1]),
        scalars=[np.float32(1.5), np.float64(2.5), np.int64(3), np.bool_(True)],
        arrays=[np.arange(3, dtype=code) for code in 'bhilBHILefd'],
        ordered=collections.OrderedDict(a=1),
    )
    torch.save(content, tmp_path / 'file.pth')
    read = torch.load(tmp_path / 'file.pth', weights_only=True)
    assert read['history'].data[0].tolist() == [1.0, 2.0]
    assert read['scalars'] == content['scalars']
    assert all(
        np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(read['arrays'], content['arrays'], strict=True)
    )


def test_a_process_that_has_logged_nothing_reads_logged_values(tmp_path):
    """HistoryBuffer's table of methods, which a checkpoint points into, is empty until the first buffer is made."""
    torch.save(dict(history=HistoryBuffer([1.0], [1])), tmp_path / 'file.pth')
    code = f'import xvit_det, mmengine, torch; torch.load({str(tmp_path / "file.pth")!r}, weights_only=True)'
    subprocess.run([sys.executable, '-c', code], check=True, cwd=REPO)


def test_types_stay_allowed_after_mmengine_loads(tmp_path):
    torch.save(dict(state_dict={}, history=HistoryBuffer([1.0], [1])), tmp_path / 'file.pth')
    for _ in range(2):
        load_checkpoint(Line(), str(tmp_path / 'file.pth'))
        torch.load(tmp_path / 'file.pth', weights_only=True)


@pytest.mark.parametrize('core', [b'core', b'_core'])
def test_arrays_of_either_numpy(tmp_path, core):
    """numpy 2 moved the functions that rebuild arrays; a file names the place of the numpy that wrote it."""
    path = tmp_path / 'file.pth'
    torch.save(dict(a=np.arange(3.0), b=np.float32(1)), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    here = b'_core' if b'numpy._core.multiarray' in data else b'core'
    path.write_bytes(data.replace(b'numpy.' + here + b'.multiarray', b'numpy.' + core + b'.multiarray'))
    read = torch.load(path, weights_only=True)
    assert read['a'].tolist() == [0.0, 1.0, 2.0] and read['b'] == 1


class Payload:
    def __reduce__(self):
        return print, ('executed',)


class Probe:
    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_getattr_reaches_nothing_but_statistics(tmp_path):
    torch.save(dict(probe=Probe()), tmp_path / 'file.pth')
    with pytest.raises(Exception, match='no plain data'):
        torch.load(tmp_path / 'file.pth', weights_only=True)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch, capsys):
    """As docs/security.md says: OneDL's loader falls back to executing it, until a command of ours forbids that."""
    torch.save(dict(state_dict={}, evil=Payload()), tmp_path / 'evil.pth')
    with contextlib.suppress(pickle.UnpicklingError):
        load_checkpoint(Line(), str(tmp_path / 'evil.pth'))
    is_onedl = 'onedl-mmengine' in {each.metadata['Name'] for each in distributions()}
    assert ('executed' in capsys.readouterr().out) == is_onedl
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'to be restored')
    command(lambda: None)()  # every command refuses it
    with pytest.raises(Exception, match='print'):
        load_checkpoint(Line(), str(tmp_path / 'evil.pth'))
    assert 'executed' not in capsys.readouterr().out
