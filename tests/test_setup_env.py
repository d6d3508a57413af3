"""The set-up script: what stops it, and what it repeats or leaves alone. Nothing is downloaded here."""

import importlib.util
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture
def setup_env():
    """A fresh copy of the script as a module."""
    spec = importlib.util.spec_from_file_location('setup_env', REPO / 'tools' / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installs(setup_env, monkeypatch, tmp_path):
    """Replace pip and the self-check; the list collects what would have been done."""
    done = []
    setup_env.STACKS = {'onedl': (setup_env.STACKS['onedl'][0], tmp_path / 'env')}
    monkeypatch.setattr(setup_env.venv, 'create', lambda env, **_: make_python(done, env))
    monkeypatch.setattr(setup_env, 'pip', lambda env, *args, **_: done.append(f'pip {args[0]}'))
    monkeypatch.setattr(setup_env, 'runs', lambda env, code: setup_env.env_python(env).exists())
    monkeypatch.setattr(setup_env, 'self_check', lambda env: done.append('check') or True)
    monkeypatch.setattr(setup_env, 'check_disk', lambda folder: None)
    return done


def make_python(done, env):
    done.append('venv')
    (env / 'bin').mkdir(parents=True)
    (env / 'bin' / 'python').touch()


def test_pins_are_complete_and_fit(setup_env):
    libraries = setup_env.read_pins(setup_env.LIBRARIES)
    setup_env.check_pair(libraries)
    families = [set(setup_env.read_pins(requirements)) for requirements, _ in setup_env.STACKS.values()]
    assert families == [
        {
            'onedl-mmengine',
            'onedl-mmcv',
            'onedl-mmdetection',
            'onedl-mmpretrain',
            'onedl-mmsegmentation',
            'imaug',
            'trackers',
        },
        {'mmengine', 'mmcv-lite', 'mmdet', 'mmpretrain', 'mmsegmentation', 'trackers'},
    ]


def test_mismatched_pair(setup_env):
    with pytest.raises(setup_env.SetupError, match='torch 2.13.0 needs torchvision 0.28'):
        setup_env.check_pair({'torch': '2.13.0', 'torchvision': '0.27.1'})


@pytest.mark.parametrize('version', [(3, 9), (3, 13), (2, 7)])
def test_wrong_python(setup_env, version):
    with pytest.raises(setup_env.SetupError, match=f'Python {version[0]}.{version[1]} .*3.10, 3.11 or 3.12'):
        setup_env.check_python(version)


def test_full_disk(setup_env, monkeypatch, tmp_path):
    usage = namedtuple('usage', 'free')(free=2e9)
    monkeypatch.setattr(setup_env.shutil, 'disk_usage', lambda folder: usage)
    with pytest.raises(setup_env.SetupError, match='has 2.0 GB free.*about 10 GB'):
        setup_env.check_disk(tmp_path)


def test_second_run_does_nothing(setup_env, installs):
    setup_env.setup('onedl')
    assert installs == ['venv', *4 * ['pip install'], 'check']
    setup_env.setup('onedl')
    assert len(installs) == 6


def test_interrupted_run_is_continued(setup_env, installs, monkeypatch):
    def interrupted(env):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup_env, 'self_check', interrupted)
        with pytest.raises(KeyboardInterrupt):
            setup_env.setup('onedl')
    installs.clear()
    setup_env.setup('onedl')
    assert installs == [*4 * ['pip install'], 'check']


def test_damaged_environment_is_rebuilt(setup_env, installs, monkeypatch):
    setup_env.setup('onedl')
    env = setup_env.STACKS['onedl'][1]
    (env / setup_env.STAMP).write_text('older requirements')
    installs.clear()
    answers = iter([False, True])
    monkeypatch.setattr(setup_env, 'self_check', lambda env: next(answers))
    setup_env.setup('onedl')
    assert installs.count('venv') == 1 and setup_env.is_ready(env, setup_env.STACKS['onedl'][0])


def test_failed_check_of_a_new_environment_stops(setup_env, installs, monkeypatch):
    monkeypatch.setattr(setup_env, 'self_check', lambda env: False)
    with pytest.raises(setup_env.SetupError, match='self-check failed'):
        setup_env.setup('onedl')
    assert not (setup_env.STACKS['onedl'][1] / setup_env.STAMP).exists()


@pytest.mark.parametrize('compiler', ['no-such-compiler', 'false'])
def test_compiling_without_a_compiler(setup_env, installs, monkeypatch, tmp_path, compiler):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(setup_env, 'build_key', lambda env, mmcv: ('key', False))
    monkeypatch.setenv('CXX', compiler)
    with pytest.raises(setup_env.SetupError, match='needs a C\\+\\+ compiler'):
        setup_env.setup_compiled('onedl')


def test_compiled_wheel_comes_from_the_cache(setup_env, installs, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(setup_env, 'build_key', lambda env, mmcv: (f'python3.11-mmcv{mmcv}-cpu', False))
    wheels = tmp_path / 'cache' / 'xvit_det' / 'wheels' / 'python3.11-mmcv2.3.6-cpu'
    wheels.mkdir(parents=True)
    (wheels / 'onedl_mmcv-2.3.6.whl').touch()
    setup_env.setup_compiled('onedl')
    assert installs.count('pip wheel') == 0 and installs[-2:] == ['pip install', 'check']


def test_message_instead_of_a_traceback():
    """Run as `make` runs it, under an interpreter that says it is too old."""
    code = (
        'import runpy, sys; sys.version_info = (3, 9, 1); sys.argv = ["setup_env.py"];'
        f'runpy.run_path({str(REPO / "tools" / "setup_env.py")!r}, run_name="__main__")'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith('\nset-up stopped: Python 3.9') and 'Traceback' not in done.stderr
