"""The stand-in modules: found only where nothing else is, and cheap."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from xvit_det import compat
from xvit_det.compat import mmcv_ext, pkg_resources
from xvit_det.compat.finder import STAND_INS, StandInFinder


def run(code: str, *path: Path) -> str:
    """Standard output of a new interpreter, with folders in front of its search path."""
    code = f'import sys; sys.path[:0] = {[str(p) for p in path]}\n{code}'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fake_mmcv(folder: Path, ext: str) -> None:
    (folder / 'mmcv').mkdir()
    (folder / 'mmcv' / '__init__.py').touch()
    (folder / 'mmcv' / '_ext.py').write_text(ext)


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


def test_import_brings_neither_mmcv_nor_torchvision():
    loaded = run('import xvit_det.compat; print(*{name.split(".")[0] for name in sys.modules})').split()
    assert 'mmengine' in loaded
    assert not {'mmcv', 'mmdet', 'mmpretrain', 'torchvision'} & set(loaded)


def test_existing_ops_win(tmp_path):
    fake_mmcv(tmp_path, 'nms = "compiled"')
    assert run('import xvit_det.compat, mmcv._ext; print(mmcv._ext.nms)', tmp_path) == 'compiled'


def test_broken_ops_are_not_hidden(tmp_path):
    fake_mmcv(tmp_path, 'raise ImportError("undefined symbol")')
    code = 'import xvit_det.compat\ntry:\n    import mmcv._ext\nexcept ImportError as error:\n    print(error)'
    assert run(code, tmp_path) == 'undefined symbol'


def test_absent_ops_are_served(tmp_path):
    fake_mmcv(tmp_path, '')
    (tmp_path / 'mmcv' / '_ext.py').unlink()
    code = 'import xvit_det.compat, mmcv._ext; print(mmcv._ext.__file__)'
    assert run(code, tmp_path) == str(STAND_INS['mmcv._ext'])


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
