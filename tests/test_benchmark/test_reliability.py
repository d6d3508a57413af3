"""The benchmarks behind docs/reliability.md see what they are about: leaks, failed tests, a demo that breaks."""

import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import hours  # noqa: E402
import versions  # noqa: E402


def test_what_a_process_holds():
    before = hours.look(os.getpid())
    files = [open(os.devnull) for _ in range(5)]  # noqa: SIM115
    memory = np.ones(8 * 2**20)  # 64 MiB
    after = hours.look(os.getpid())
    assert after['files'] - before['files'] == 5 and 60 < after['mib'] - before['mib'] < 80
    for file in files:
        file.close()
    del memory
    assert hours.look(os.getpid())['files'] == before['files']


def test_failed_tests_and_a_broken_demo_are_counted(tmp_path, monkeypatch):
    tests = tmp_path / 'tests' / 'test_three'
    tests.mkdir(parents=True)
    (tests / 'test_it.py').write_text(
        'import pytest\n\ndef test_good(): pass\ndef test_bad(): assert False\ndef test_none(): pytest.skip("none")\n'
    )
    monkeypatch.setattr(versions, 'REPO', tmp_path)
    assert versions.run_tests(tmp_path / 'report.xml', ['three']) == dict(passed=1, failed=1, skipped=1)
    (tmp_path / 'demo').write_text('')  # where results go
    assert 'error: ' in versions.run_demo(tmp_path)
    assert 'torch' in versions.installed()
