"""The environment report."""

import importlib
import json

import pytest
import torch

from xvit_det.analysis import environment as env
from xvit_det.cli.env import main


def test_report_of_this_environment(capsys):
    assert main(['--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert torch.__version__.split('+')[0] in report['modules']['torch']
    assert report['modules']['mmengine'].split()[0] in ('mmengine', 'onedl-mmengine')
    assert report['features']['torchvision']['works']
    assert report['features']['GPU']['works'] == torch.cuda.is_available()
    assert main([]) == 0
    text = capsys.readouterr().out
    assert 'classification' in text and text.startswith('system')


def test_both_families_are_reported():
    found = dict.fromkeys((*env.FAMILY, *env.LIBRARIES), []) | {
        'mmcv': ['mmcv-lite 2.1.0', 'onedl-mmcv 2.3.6'],
        'mmengine': ['onedl-mmengine 0.10.12'],
    }
    warnings = ' '.join(env.family_warnings(found))
    assert 'Both OpenMMLab families are installed (onedl-mmcv, onedl-mmengine and mmcv-lite)' in warnings
    assert 'both install the module mmcv' in warnings
    assert env.family_warnings(found | {'mmcv': ['onedl-mmcv 2.3.6']}) == []


@pytest.mark.parametrize('module, feature', [('mmdet.models', 'detection'), ('mmcv.ops', 'mmcv ops')])
def test_broken_module_is_a_verdict_with_remedy(monkeypatch, capsys, module, feature):
    real = importlib.import_module

    def import_module(name):
        if name == module:
            raise ImportError('_ext.so: undefined symbol: _ZN3c10\nmore')
        return real(name)

    monkeypatch.setattr(env.importlib, 'import_module', import_module)
    assert main(['--json', '--check']) == 1
    verdict = json.loads(capsys.readouterr().out)['features'][feature]
    assert not verdict['works']
    assert verdict['note'].startswith('_ext.so: undefined symbol: _ZN3c10 -> ') and 'make setup' in verdict['note']


def test_mismatched_pair_is_found_by_calling_an_op(monkeypatch):
    torchvision = pytest.importorskip('torchvision', reason='torchvision is not installed')

    def nms(*args):
        raise RuntimeError('operator torchvision::nms does not exist')

    monkeypatch.setattr(torchvision.ops, 'nms', nms)
    verdict = env.collect().features['torchvision']
    assert not verdict.works and '0.(N+15)' in verdict.note
