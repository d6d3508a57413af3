"""How fast paths are chosen."""

import pytest

from xvit_det.errors import InputError
from xvit_det.kernels import choice


class Clock:
    """Time as two functions spend it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(choice.time, 'perf_counter', lambda: self.now)

    def spending(self, *seconds):
        """A function whose calls take these seconds, and the last of them from then on."""
        left = list(seconds)

        def spend():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return spend


def test_other_work_on_the_machine_does_not_count(monkeypatch):
    clock = Clock(monkeypatch)
    assert choice.measured_speedup(clock.spending(9, 3, 7), clock.spending(8, 8, 8, 1.5, 8)) == pytest.approx(2)
    assert choice.measured_speedup(clock.spending(1), clock.spending(4)) == pytest.approx(0.25)


def test_environment(monkeypatch):
    monkeypatch.delenv('XVIT_DET_TEST', raising=False)
    assert choice.asked('XVIT_DET_TEST', ['auto', 'slow']) == 'auto'
    monkeypatch.setenv('XVIT_DET_TEST', 'slow')
    assert choice.asked('XVIT_DET_TEST', ['auto', 'slow']) == 'slow'
    monkeypatch.setenv('XVIT_DET_TEST', '')
    with pytest.raises(InputError, match="XVIT_DET_TEST is '', but must be one of auto, slow"):
        choice.asked('XVIT_DET_TEST', ['auto', 'slow'])
