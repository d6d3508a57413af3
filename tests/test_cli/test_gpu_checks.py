"""``benchmarks/gpu/run.py``: what is done is kept, and what is not goes on."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


def test_a_check_goes_on_where_it_was_cut_off(run, module, tmp_path, monkeypatch, capsys):
    words = ['first', 'second', 'last']
    codes = [note(word) for word in words]

    def out_of_time(command, **kwargs):
        if 'second' in command[2]:
            raise subprocess.TimeoutExpired(command, 0)
        return subprocess.run(command, **kwargs)

    monkeypatch.setattr(
        module, 'subprocess', SimpleNamespace(run=out_of_time, TimeoutExpired=subprocess.TimeoutExpired)
    )
    assert run(*codes) == 3
    assert 'give the same command again' in capsys.readouterr().out
    assert (tmp_path / 'notes').read_text().split() == words[:1]
    monkeypatch.setattr(module, 'subprocess', subprocess)
    assert run(*codes) == 0
    assert (tmp_path / 'notes').read_text().split() == words


def test_minutes_end_a_command(run):
    assert run('import time; time.sleep(600)', minutes=0.01) == 3


def test_a_check_is_complete(run, capsys):
    assert run('pass') == 0
    assert "check 'speed' is complete" in capsys.readouterr().out


def test_a_failure_stops_and_is_tried_again(run, tmp_path):
    assert run(note('first'), 'raise SystemExit(7)', note('last')) == 7
    assert run(note('first'), note('second')) == 0
    assert (tmp_path / 'notes').read_text().split() == ['first', 'second']


@pytest.mark.parametrize('toy', [[], ['--toy']], ids=['', 'toy'])
@pytest.mark.parametrize('check', ['tests', 'speed', 'memory', 'cifar10', 'photographs'])
def test_every_check_has_commands_whose_files_exist(check, toy, module, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['run.py', check, '--out', str(tmp_path), *toy])
    commands = list(module.CHECKS[check](module.parse_args()))
    assert commands and len(commands) == len(set(map(tuple, commands)))  # each is done once
    for command in commands:
        files = [Path(word) for word in command if word.endswith('.py') or word.startswith('tests/')]
        assert all((module.REPO / file).exists() for file in files), command
