"""The benchmark of linearized attention, on a few scenes: alignment brings back what attention is worth."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import linearize  # noqa: E402


class FewScenes(linearize.Context):
    steps, scenes = 150, (160, 24)


@pytest.mark.heavy
def test_alignment_keeps_most_of_the_attention_and_its_controls_do_not(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(linearize, 'ALIGN_STEPS', 40)
    monkeypatch.setattr(linearize, 'TUNE_STEPS', 4)
    task = FewScenes(Path(), tmp_path)
    torch.manual_seed(0)
    teacher = task.model(dict(type='softmax'))
    linearize.train(teacher, task, 0, task.steps)
    before = linearize.score(teacher, task)
    results = linearize.linearize(teacher, task, dict(type='nystrom', landmarks=16), seed=1)
    assert linearize.score(teacher, task) == before > 0.8
    assert results['aligned'] > before - 0.1
    assert max(results[key] for key in ('aligned_zeroed', 'random', 'zeroed_tuned', 'scratch')) < 0.7
    assert all(errors[-1] < errors[0] for errors in results['errors'].values())
    rows = [dict(teacher='softmax', student='nystrom', seed=0, errors_from_random={}) | results]
    linearize.draw(tmp_path / 'errors.png', rows)
    assert (tmp_path / 'errors.png').is_file()
