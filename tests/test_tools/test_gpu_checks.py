"""``benchmarks/gpu/run.py``: what is done is kept, and what is not goes on."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / 'benchmarks' / 'gpu' / 'run.py'


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location('gpu_checks', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(module, tmp_path, monkeypatch):
    """``run(*codes, minutes=1)``: the status of a check whose commands are these Python programs."""

    def run(*codes: str, minutes: float = 1) -> int:
        commands = [module.python('-c', code, tmp_path) for code in codes]
        monkeypatch.setitem(module.CHECKS, 'speed', lambda args: iter(commands))
        argv = ['run.py', 'speed', '--out', str(tmp_path), '--minutes', str(minutes)]
        monkeypatch.setattr(sys, 'argv', argv)
        return module.main()

    return run


def note(word: str) -> str:
    return f'import pathlib, sys; (pathlib.Path(sys.argv[1]) / "notes").open("a").write("{word}\\n")'


def test_a_check_goes_on_where_it_was_cut_off(run, tmp_path, capsys):
    first, last = note('first'), note('last')
    assert run(first, 'import time; time.sleep(60)', last, minutes=0.05) == 3
    assert 'give the same command again' in capsys.readouterr().out
    assert run(first, 'pass', last) == 0
    assert (tmp_path / 'notes').read_text().split() == ['first', 'last']
    assert "check 'speed' is complete" in capsys.readouterr().out


def test_a_failure_stops_and_is_tried_again(run, tmp_path):
    assert run(note('first'), 'raise SystemExit(7)', note('last')) == 7
    assert run(note('first'), note('second')) == 0
    assert (tmp_path / 'notes').read_text().split() == ['first', 'second']


@pytest.mark.parametrize('check', ['tests', 'speed', 'memory', 'cifar10', 'photographs'])
def test_every_check_has_commands_whose_files_exist(check, module, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['run.py', check, '--out', str(tmp_path)])
    commands = list(module.CHECKS[check](module.parse_args()))
    assert commands and len(commands) == len(set(map(tuple, commands)))  # each is done once
    for command in commands:
        files = [Path(word) for word in command if word.endswith('.py') or word.startswith('tests/')]
        assert all((module.REPO / file).exists() for file in files), command
