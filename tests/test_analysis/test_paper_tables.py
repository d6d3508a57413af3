"""Exact parameter counts of every row of the "Vision Xformers" tables, and the command that prints them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import xvit_det
from xvit_det import count_parameters, hub
from xvit_det.analysis.paper_tables import rows
from xvit_det.cli.paper_tables import main

REPO = Path(__file__).resolve().parents[2]
COUNTS = json.loads((REPO / 'tests' / 'data' / 'vix_counts.json').read_text())


@pytest.fixture(scope='module')
def table_rows():
    return rows()


def test_every_row_of_every_table_is_there(table_rows):
    places = [(row.paper['table'], row.paper['row']) for row in table_rows]
    lengths = {1: 12, 2: 12, 3: 12, 4: 12, 5: 6, 6: 8}
    assert places == [(table, row) for table, n in lengths.items() for row in range(1, n + 1)]


def test_counts_are_exact(table_rows):
    expected = {name: counts for name, counts in COUNTS['configs'].items() if not name.endswith('_in1k')}
    assert {row.config: [row.counted, row.total] for row in table_rows} == expected


def test_the_one_misprint(table_rows):
    (misprint,) = [row for row in table_rows if row.verdict == 'misprint']
    assert (misprint.config, misprint.counted, misprint.paper['parameters']) == ('levip_cifar10', 622_410, 662_410)
    assert not misprint.differs
    assert all(row.counted == row.paper.get('parameters', row.counted) for row in table_rows if row != misprint)


def test_rotary_positions_keep_the_papers_count(table_rows):
    counted = {row.config: row.counted for row in table_rows}
    rotary = [name for name in counted if '_rope' in name]
    assert len(rotary) == 8
    assert all(counted[name] == counted[name.replace('_rope', '')] for name in rotary)


@pytest.mark.parametrize('name', [name for name in COUNTS['configs'] if name.endswith('_in1k')])
def test_imagenet_models(name):
    cfg = Config.fromfile(hub.find_config(name))
    with torch.device('meta'):
        model = MODELS.build({**cfg.model, '_scope_': 'mmpretrain'})
    assert [count_parameters(model, 'paper'), count_parameters(model)] == COUNTS['configs'][name]


@pytest.mark.parametrize('variant', COUNTS['variants'], ids=lambda variant: json.dumps(variant['backbone']))
def test_models_outside_the_tables(variant):
    options = dict(variant['backbone'])
    with torch.device('meta'):
        family = getattr(xvit_det, options.pop('type'))
        backbone = family(arch='paper', img_size=32, patch_size=1, out_type='cls_token', **options)
        model = torch.nn.Sequential(backbone, torch.nn.Linear(backbone.out_channels[0], 10))
    assert [count_parameters(model, 'paper'), count_parameters(model)] == variant['counts']


def test_a_wrong_figure_fails(tmp_path, monkeypatch, capsys):
    configs = tmp_path / 'configs'
    shutil.copytree(REPO / 'configs' / '_base_', configs / '_base_')
    folder = configs / 'classification' / 'vix'
    folder.mkdir(parents=True)
    for name in ('vit_cifar10', 'levip_cifar10', 'vit_rope_cifar10'):
        shutil.copy(REPO / 'configs' / 'classification' / 'vix' / f'{name}.py', folder)
    monkeypatch.setattr(hub, 'config_dir', lambda: configs)
    main([])
    assert '0 differ' in capsys.readouterr().out
    text = (folder / 'vit_cifar10.py').read_text()
    assert '530_442' in text
    (folder / 'vit_cifar10.py').write_text(text.replace('530_442', '530_443'))
    for options in ([], ['--markdown']):
        with pytest.raises(SystemExit) as stop:
            main(options)
        assert stop.value.code == 1
        (line,) = [line for line in capsys.readouterr().out.splitlines() if 'DIFFERS' in line]
        assert '530,443' in line and '530,442' in line
