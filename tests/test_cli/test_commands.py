"""``xvit-det`` itself: help without waiting, dispatch, and the list of models."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import xvit_det
from xvit_det import cli
from xvit_det.cli.models import main as models


def run(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'xvit_det', *argv], capture_output=True, text=True)


@pytest.mark.parametrize('command', [None, *cli.COMMANDS])
def test_help_does_not_load_torch(command):
    argv = ['--help'] if command is None else [command, '--help']
    code = (
        f'import sys, atexit; atexit.register(lambda: print("torch" in sys.modules)); sys.argv = {["xvit-det", *argv]}'
    )
    done = subprocess.run([sys.executable, '-c', f'{code}\nfrom xvit_det.cli import main; main()'], capture_output=True)
    *help_text, loaded = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert help_text[0].startswith(f'usage: xvit-det {command or "[-h]"}') and '`' not in ''.join(help_text)
    assert loaded == 'False'


def test_help_shows_every_command_with_an_example():
    text = run('--help').stdout
    for name, (what, example) in cli.COMMANDS.items():
        assert what in text and f'  xvit-det {name} {example}' in text


def test_the_entry_point_is_the_same_command():
    entry = shutil.which('xvit-det', path=str(Path(sys.executable).parent))
    assert entry is not None, 'the environment was made without the entry point: run `make setup`'
    shown = subprocess.run([entry, '--version'], capture_output=True, text=True).stdout
    assert shown == run('--version').stdout == f'xvit_det {xvit_det.__version__}\n'


def test_an_unknown_command_lists_the_known_ones():
    done = run('trian')
    assert done.returncode == 2 and "'trian'" in done.stderr and 'paper-tables' in done.stderr


def test_the_exit_status_is_the_commands():
    assert run('models', 'nothing*').returncode == 2


def test_models_are_listed_with_their_counts(capsys):
    models(['mask_rcnn_xvit_s_3x'])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if 'mask_rcnn' in line]
    assert [cell.strip() for cell in line.strip('│').split('│')] == [
        *('mask_rcnn_xvit_s_3x', 'XViT', '39,672,672', '19,374,192', '275.34', '93.49', '800x1344')
    ]
    models(['xvit_?_in1k'])
    assert '20,753,016' in capsys.readouterr().out


def test_names_of_models(capsys):
    models(['--names', '*xvit_b*'])
    assert capsys.readouterr().out.split() == xvit_det.list_models('*xvit_b*')


def test_no_model_matches(capsys):
    with pytest.raises(SystemExit) as stop:
        models(['resnet*'])
    assert stop.value.code == 2 and "no model matches 'resnet*'" in capsys.readouterr().err


def test_only_the_table_is_printed():
    """OpenMMLab remarks on optional packages while a dataset's module is imported."""
    assert run('models', 'vit_tinyimagenet').stdout.startswith('┏')
