"""The benchmark of precision sees a mixer that lost one of its safeguards."""

import sys
from pathlib import Path

import pytest

from xvit_det.benchmark.record import Record

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import amp_training  # noqa: E402
import precision  # noqa: E402


def measure(model, without=''):
    record = Record({})
    precision.measure(model, '224x224', 'large q, k, v', record, without)
    return {row['dtype']: row for row in record.rows}


@pytest.mark.parametrize(
    ('model', 'without'), [('ViX/xnorm', 'unit_vectors'), ('ViX/xca', 'unit_vectors'), ('ViX/performer', 'performer')]
)
def test_a_missing_safeguard_is_seen(model, without):
    rows = measure(model)
    assert all(row['finite'] for row in rows.values())
    assert rows['bf16']['maps'] < 0.02 and rows['fp16']['maps'] < 0.002
    unsafe = measure(model, without)['fp16']
    assert unsafe['maps'] > 0.1 or not unsafe['finite']


@pytest.mark.parametrize('dtype', ['bf16', 'fp16'])
def test_steps_of_training_lower_the_loss(dtype):
    found = amp_training.train('ViX, Performer', amp_training.DTYPES[dtype], steps=40)
    assert found['finite'] and found['last_loss'] < 0.9 * found['first_loss']
