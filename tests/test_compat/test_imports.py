"""The stand-in modules: found only where nothing else is, and cheap."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xvit_det.compat import mmcv_ext, pkg_resources, startup
from xvit_det.compat.after_import import when_imported


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
    startup.install()
    startup.install()
    names = [getattr(finder, '__name__', '') for finder in sys.meta_path]
    assert names.count('StandInFinder') == 1
    assert startup.StandInFinder.find_spec('mmcv.ops') is None


def test_spec_is_complete():
    pytest.importorskip('mmcv', reason='mmcv is not installed')
    spec = importlib.util.find_spec('mmcv._ext')
    assert spec.name == 'mmcv._ext' and spec.loader is not None and Path(spec.origin).is_file()
    ext = importlib.import_module('mmcv._ext')
    assert ext.__spec__ is not None and hasattr(ext, 'nms') and hasattr(ext, 'border_align_forward')


def run_python(code: str, cwd: str | None = None, **variables: str) -> str:
    # Commands of other tests have set the variable in this process.
    clean = {k: v for k, v in os.environ.items() if k != 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'} | variables
    command = [sys.executable, '-c', code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=clean, cwd=cwd).stdout


def test_import_is_light_and_leaves_pytorch_as_it_is():
    imported = 'print(*{name.split(".")[0] for name in sys.modules});'
    done = run_python(
        f'import os, sys, xvit_det; {imported} xvit_det.XViT; {imported}'
        'assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ'
    )
    before, after = (set(line.split()) for line in done.splitlines())
    assert not {'torch', 'mmengine'} & before
    assert {'torch', 'mmengine'} <= after and not {'mmcv', 'mmdet', 'mmpretrain', 'torchvision'} & after


def test_the_compiler_is_not_imported_with_the_backbones():
    loaded = '"torch._dynamo" in sys.modules'
    done = run_python(f'import sys, mmengine.model; before = {loaded}; import xvit_det.hub; print(before, {loaded})')
    before, after = done.split()
    assert before == after


@pytest.mark.parametrize('imports', ['xvit_det, mmengine', 'mmengine, xvit_det', 'mmengine.runner, xvit_det.hub'])
def test_classes_are_registered_in_either_order(imports):
    find = 'from mmengine.registry import MODELS, OPTIM_WRAPPERS; print(MODELS.get("XViT"), MODELS.get("PiX"))'
    done = run_python(f'import {imports}; {find}; print(OPTIM_WRAPPERS.get("AutoAmpOptimWrapper"))')
    assert 'backbones.xvit.XViT' in done and 'backbones.pix.PiX' in done and 'AutoAmpOptimWrapper' in done


@pytest.mark.parametrize(
    'imports',
    [
        'mmdet.models, xvit_det',
        'xvit_det, mmdet.models',
        'mmcv.ops, mmengine',
        'mmseg.apis, xvit_det',
        'mmseg.models, xvit_det',
        'xvit_det, mmseg.apis',
    ],
)
def test_stand_ins_are_found_in_any_order(imports):
    """By the file that Python imports at its start, wherever the process runs."""
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    code = f'import {imports}, mmcv._ext; print(mmcv._ext.__spec__ is not None)'
    assert run_python(code, cwd='/').splitlines()[-1] == 'True'  # mmseg remarks on what else it could use


def test_stand_ins_can_be_switched_off():
    code = 'import xvit_det, sys; print([f for f in sys.meta_path if getattr(f, "__name__", "") == "StandInFinder"])'
    assert run_python(code, XVIT_DET_STAND_INS='0') == '[]\n' != run_python(code)


def test_the_start_of_every_process_stays_cheap():
    code = 'import sys; print(*{name.split(".")[0] for name in sys.modules})'
    loaded = set(run_python(code, cwd='/').split())
    assert 'xvit_det_startup' in loaded, 'the environment was made without it: run `make setup`'
    assert not {'xvit_det', 'torch', 'numpy', 'importlib.util', 'typing', 'pathlib'} & loaded


def test_a_call_after_an_import(tmp_path, monkeypatch):
    (tmp_path / 'imported_later.py').write_text('value = 1')
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    when_imported('imported_later', lambda: seen.append(sys.modules['imported_later'].value))
    assert importlib.util.find_spec('imported_later') is not None and seen == []
    importlib.import_module('imported_later')
    assert seen == [1]
    when_imported('imported_later', lambda: seen.append('at once'))
    assert seen == [1, 'at once'] and not any(getattr(f, 'name', '') == 'imported_later' for f in sys.meta_path)


def test_existing_ops_win(fake_mmcv):
    (fake_mmcv / '_ext.py').write_text('nms = "compiled"')
    assert importlib.import_module('mmcv._ext').nms == 'compiled'


def test_broken_ops_are_not_hidden(fake_mmcv):
    (fake_mmcv / '_ext.py').write_text('raise ImportError("undefined symbol")')
    with pytest.raises(ImportError, match='undefined symbol'):
        importlib.import_module('mmcv._ext')


def test_absent_ops_are_served(fake_mmcv):
    assert importlib.import_module('mmcv._ext').__file__ == mmcv_ext.__file__


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
