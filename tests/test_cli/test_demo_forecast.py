"""What the demo says before and after its first iterations: in which precision it trains, and for how long."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import HistoryBuffer

from xvit_det.cli import demo, demo_training
from xvit_det.cli.demo_forecast import MEASURED, WARM_UP, Forecast, forecast
from xvit_det.kernels import bfloat16_trial


@pytest.fixture
def on_a_cpu(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(('faster', 'precision'), [(True, 'bfloat16'), (False, 'float32')])
def test_trains_in_what_the_trial_found_faster(on_a_cpu, monkeypatch, faster, precision):
    monkeypatch.setattr(bfloat16_trial, 'is_faster', lambda: faster)
    assert demo._precision(processes=1) == precision


def test_trial_has_the_threads_of_the_processes(on_a_cpu, monkeypatch):
    torch.set_num_threads(2)
    tried = []
    monkeypatch.setattr(bfloat16_trial, 'is_faster', lambda: tried.append(torch.get_num_threads()))
    demo._precision(processes=1)
    demo._precision(processes=2)
    assert tried == [2, 1]


def test_no_trial_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(bfloat16_trial, 'is_faster', lambda: pytest.fail('tried'))
    assert demo._precision(processes=1) == 'float32'


def test_one_line_after_the_first_iterations():
    """The warm-up is slow, and what comes later is not waited for."""
    said = []
    hook = Forecast(said.append, slowdown=1.5, shorter=None)
    times = HistoryBuffer()
    runner = SimpleNamespace(
        max_iters=600, max_epochs=6, message_hub=SimpleNamespace(get_scalar={'train/time': times}.get)
    )
    for runner.iter in range(100):
        times.update(100.0 if runner.iter < WARM_UP else 0.2)
        hook.after_train_iter(runner, 0)
        assert len(said) == (runner.iter + 1 >= WARM_UP + MEASURED)
    assert said == ['Training will take about 3 min.']


@pytest.mark.parametrize(
    ('minutes', 'line'),
    [
        (0.1, 'Training will take about 1 min.'),
        (5.2, 'Training will take about 5 min.'),
        (6.8, 'Training will take about 7 min.'),
        (7.2, 'Training will take about 7 min. For about 6 min, press Ctrl-C and run: demo with 5'),
        (14.0, 'Training will take about 14 min. For about 7 min, press Ctrl-C and run: demo with 3'),
        (120.0, 'Training will take about 120 min. For about 20 min, press Ctrl-C and run: demo with 1'),
    ],
)
def test_long_training_comes_with_a_shorter_command(minutes, line):
    assert forecast(minutes * 60, epochs=6, shorter=lambda epochs: f'demo with {epochs}') == line


def test_nothing_shorter_than_one_epoch_and_nothing_for_those_who_chose():
    assert forecast(3000, epochs=1, shorter=str) == forecast(3000, epochs=6, shorter=None)
    assert demo_training._shorter(Namespace(epochs=6, given=['--epochs', '6'])) is None


def test_the_shorter_command_is_the_one_that_was_given_with_fewer_epochs(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(demo_training, 'demo', ran.append)
    given = ['--task', 'detection', '--seed', '3', '--processes', '1', '--work-dir', str(tmp_path)]
    demo.main(given)
    words = demo_training._shorter(ran[0])(4).split()
    demo.main(words[words.index('demo') + 1 :])
    first, second = (vars(args) for args in ran)
    assert second.pop('epochs') == 4 and first.pop('epochs') is None
    assert {**first, 'given': [*given, '--epochs', '4']} == second
