"""``benchmarks/stock_mmdet.py``: the rules of docs/swap.md, small images, and a run on real photographs."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import ConfigDict

FOLDER = Path(__file__).resolve().parents[2] / 'benchmarks'


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ('neck', 'in_channels', 'settings'),
    [
        (dict(in_channels=[256, 512, 1024, 2048]), [192] * 4, {}),
        (
            dict(in_channels=[256, 512, 1024, 2048], start_level=1),
            [192] * 3,
            {'backbone.out_strides': (8, 16, 32), 'neck.start_level': 0},
        ),
        (dict(in_channels=[512, 1024, 2048]), [192] * 3, {'backbone.out_strides': (8, 16, 32)}),
        (dict(in_channels=[2048]), [192], {'backbone.out_strides': (32,)}),
        (dict(in_channels=2048), 192, {'backbone.out_strides': (32,)}),
    ],
)
def test_rules(neck, in_channels, settings):
    swap = load('stock_swap').swap
    plain = ConfigDict(backbone=dict(type='ResNet', depth=50), neck=dict(neck))
    listed = ConfigDict(detector=dict(backbone=dict(type='ResNet'), neck=[dict(neck), dict(type='BFP', in_channels=7)]))
    for model, part in ((plain, plain), (listed, listed.detector)):
        assert swap('any', model, dict(type='XViT'), 192) == settings
        first = part.neck[0] if isinstance(part.neck, list) else part.neck
        assert first.in_channels == in_channels and first.get('start_level', 0) == 0
        assert part.backbone.get('out_strides') == settings.get('backbone.out_strides')
        assert part.backbone.type == 'XViT' and 'depth' not in part.backbone
    assert listed.detector.neck[1].in_channels == 7


def test_rule_without_a_neck():
    model = ConfigDict(backbone=dict(type='ResNet'), panoptic_head=dict(in_channels=[256, 512, 1024, 2048]))
    assert load('stock_swap').swap('any', model, dict(type='XViT'), 192) == {}
    assert model.panoptic_head.in_channels == [192] * 4


def test_pipelines_get_small_images():
    shrink = load('stock_data').shrink
    step = dict(type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)], keep_ratio=True, prob=1)
    assert shrink(step) == dict(type='RandomChoiceResize', scales=[(544, 256), (544, 320)], keep_ratio=True, prob=1)
    assert shrink(dict(border=(-320, -320), pad_val=400)) == dict(border=(-128, -128), pad_val=400)
    assert shrink(dict(scale=(300, 300))) == dict(scale=(300, 300))


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, FOLDER / 'stock_mmdet.py', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


@pytest.mark.heavy
def test_step_and_prediction_on_photographs(coco_tiny, tmp_path):
    path = tmp_path / 'stock.json'
    arguments = ('--data-root', coco_tiny, '--work-dir', tmp_path, '--json', path)
    result = run(*arguments, '--only', 'yolof', 'misc')
    assert result.returncode == 0, result.stdout + result.stderr
    works, left_out = json.loads(path.read_text())['rows']
    assert works['model'] == 'YOLOF' and works['settings'] == {'backbone.out_strides': [32]}
    assert 'error' not in works
    assert left_out['family'] == 'misc' and left_out['left_out']


def test_unknown_folder(tmp_path):
    result = run('--data-root', tmp_path, '--only', 'nothing')
    assert result.returncode == 2 and '--only nothing: mmdet has no such folder' in result.stderr


def test_failures_are_explained():
    rows = json.loads((FOLDER / 'cpu' / 'stock_mmdet.json').read_text())['rows']
    page = (FOLDER.parent / 'docs' / 'swap.md').read_text()
    explained = page.split('whose fault it is:')[1].split('\n## ')[0]
    assert {row['family'] for row in rows if 'error' in row} == {
        *re.findall(r'`([a-z_0-9]+)`', explained.split('Trackers')[0])
    } - {
        'contiguous_format',
        'loss_cls',
    }
