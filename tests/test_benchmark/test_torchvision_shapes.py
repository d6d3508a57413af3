"""The benchmark that runs the docs' training loop for torchvision: recorded, and continued after an interruption."""

import functools
import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import torchvision_shapes as script  # noqa: E402


@pytest.mark.heavy
def test_a_short_training_is_recorded(tmp_path, monkeypatch):
    code = re.sub(r'epochs = (.*), \d+', r'epochs = \1, 1', script.training_loop())
    monkeypatch.setattr(script, 'training_loop', lambda: code)
    monkeypatch.setattr(script, 'ShapesSpec', functools.partial(script.ShapesSpec, num_train=5, num_val=2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['torchvision_shapes.py', '--work-dir', 'work', '--json', 'record.json'])
    rows = []
    for _ in range(2):
        script.main()
        monkeypatch.chdir(tmp_path)
        (row,) = json.loads((tmp_path / 'record.json').read_text())['rows']
        rows.append(row)
    first, second = rows
    assert first['epochs'] == 1 and first['parameters'] > 10**6 and 0 <= first['mask_map'] <= 1
    assert first['cpu_seconds'] > 0 and second['cpu_seconds'] is None, 'the second starts from the checkpoint'
    assert first['box_map'] == second['box_map']
