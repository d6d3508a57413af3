"""The stand-in modules: found only where nothing else is, and cheap."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xvit_det import compat
from xvit_det.compat import mmcv_ext, pkg_resources
from xvit_det.compat.finder import STAND_INS, StandInFinder


@pytest.fixture
def fake_mmcv(tmp_path, monkeypatch):
    """An empty package that is imported instead of the installed mmcv; returns its folder."""
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split('.')[0] == 'mmcv'}
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / 'mmcv'
    sys.modules.pop('mmcv', None)
    sys.modules.pop('mmcv._ext', None)
    sys.modules.update(saved)


def test_installed_once_and_last():
    compat.install()
    compat.install()
    assert [type(f) for f in sys.meta_path].count(StandInFinder) == 1
    assert StandInFinder().find_spec('mmcv.ops', None) is None


def test_spec_is_complete():
    pytest.importorskip('mmcv', reason='mmcv is not installed')
    spec = importlib.util.find_spec('mmcv._ext')
    assert spec.name == 'mmcv._ext' and spec.loader is not None and Path(spec.origin).is_file()
    ext = importlib.import_module('mmcv._ext')
    assert ext.__spec__ is not None and hasattr(ext, 'nms') and hasattr(ext, 'border_align_forward')


def test_import_is_light_and_leaves_pytorch_as_it_is():
    code = (
        'import os, sys, xvit_det; assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ;'
        'print(*{name.split(".")[0] for name in sys.modules})'
    )
    clean = {
        k: v for k, v in os.environ.items() if k != 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
    }  # other tests' commands set it
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=clean)
    assert 'mmengine' in done.stdout.split()
    assert not {'mmcv', 'mmdet', 'mmpretrain', 'torchvision'} & set(done.stdout.split())


def test_existing_ops_win(fake_mmcv):
    (fake_mmcv / '_ext.py').write_text('nms = "compiled"')
    assert importlib.import_module('mmcv._ext').nms == 'compiled'


def test_broken_ops_are_not_hidden(fake_mmcv):
    (fake_mmcv / '_ext.py').write_text('raise ImportError("undefined symbol")')
    with pytest.raises(ImportError, match='undefined symbol'):
        importlib.import_module('mmcv._ext')


def test_absent_ops_are_served(fake_mmcv):
    assert importlib.import_module('mmcv._ext').__file__ == str(STAND_INS['mmcv._ext'])


def test_missing_mmengine_is_one_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match='needs mmengine.*never both'):
        compat.install()


def test_op_that_is_not_served_names_itself_and_the_remedy():
    with pytest.raises(NotImplementedError, match='border_align_forward.*make setup-compiled'):
        mmcv_ext.border_align_forward(1, output=2)
    assert not hasattr(mmcv_ext, '__wrapped__')


def test_pkg_resources_answers_what_mmengine_asks(monkeypatch):
    found = pkg_resources.get_distribution('torch')
    assert found.version.startswith(importlib.import_module('torch').__version__.split('+')[0])
    assert (Path(found.location) / 'torch').is_dir()
    assert found.has_metadata('METADATA') and 'Name: torch' in found.get_metadata('METADATA')
    with pytest.raises(pkg_resources.DistributionNotFound):
        pkg_resources.get_distribution('no-such-distribution')
    monkeypatch.setitem(sys.modules, 'pkg_resources', pkg_resources)
    assert Path(importlib.import_module('mmengine.utils').get_installed_path('rich')).name == 'rich'
