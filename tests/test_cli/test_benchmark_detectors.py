"""``tools/benchmark.py detector --beside``: whole detectors in turns, on a drawn COCO folder."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from xvit_det.benchmark import detectors
from xvit_det.benchmark.training import build_training, drop_pretrained
from xvit_det.cli.benchmark import main
from xvit_det.config.load import load_config
from xvit_det.hub import find_config

REPO = Path(__file__).resolve().parents[2]
SHORT = ('--repeats', '2', '--threads', '1')
RESNET = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(
        _delete_=True, type='ResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.02, momentum=0.9))
"""


@pytest.fixture
def configs(write_config, coco_folder, tmp_path) -> tuple[str, str]:
    """Two small Mask R-CNNs, with X-ViT and with ResNet-18; at most eight objects in an image."""
    xvit, resnet = write_config(coco_folder), tmp_path / 'resnet.py'
    resnet.write_text(RESNET.format(base=xvit))
    return xvit, str(resnet)


def rows_of(path: Path) -> dict[tuple, dict]:
    rows = json.loads(path.read_text())['rows']
    return {(row['phase'], row['model'], row['fused']): row for row in rows}


def test_detectors_take_turns(configs, tmp_path, capsys):
    xvit, resnet = configs
    path = tmp_path / 'detectors.json'
    main(
        [
            'detector',
            xvit,
            '--beside',
            resnet,
            '--fused',
            'fp32',
            'bf16',
            '--detections',
            '3',
            *SHORT,
            '--json',
            str(path),
        ]
    )
    rows = rows_of(path)
    tested = {('test', xvit, fused) for fused in (None, 'fp32', 'bf16')} | {('test', resnet, None)}
    assert set(rows) == tested | {('training', xvit, None), ('training', resnet, None)}
    for (phase, name, fused), row in rows.items():
        assert 0 < row['ms_min'] <= row['ms'] <= row['ms_max']
        assert row['detections'] == (3 if phase == 'test' else None)
        assert row['images'] == ('48x64' if phase == 'test' else '48x64, 48x64')
        assert row['ratio_to_first'] == 1 or name == resnet or fused
    capsys.readouterr()
    main(['table', str(path)])
    title, _, *lines = capsys.readouterr().out.splitlines()
    assert title == '| detector | test step, ms | ratio | training step, ms | ratio |' and len(lines) == 4
    (after_fuse,) = [line for line in lines if 'after `fuse()`, bf16' in line]
    ratio = rows['test', xvit, 'bf16']['ratio_to_first']
    assert after_fuse.endswith(f'| {ratio:.2f}x | – | – |')


def test_every_training_step_does_the_same_work(configs, monkeypatch):
    built = []
    monkeypatch.setattr(detectors, 'build_training', lambda *args: built.append(build_training(*args)) or built[-1])
    main(['detector', configs[0], '--beside', configs[1], '--phases', 'training', *SHORT])
    for config, (model, optimizer) in zip(configs, built, strict=True):
        fresh, _ = build_training(load_config(config), 'cpu')
        assert all(map(torch.equal, model.parameters(), fresh.parameters()))
        assert optimizer.optimizer.state, 'steps were taken'


def test_a_checkpoints_model_keeps_its_threshold(configs, tmp_path):
    xvit, resnet = configs
    model, _ = build_training(load_config(xvit), 'cpu')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    path = tmp_path / 'detectors.json'
    argv = ['detector', xvit, '--beside', resnet, '--checkpoint', str(tmp_path / 'weights.pth'), '--phases', 'test']
    main([*argv, '--detections', '3', *SHORT, '--json', str(path)])
    rows = rows_of(path)
    assert rows['test', xvit, None]['detections'] == 8 and rows['test', resnet, None]['detections'] == 3


def test_parts_of_one_phase(configs, tmp_path):
    path = tmp_path / 'detector.json'
    main(['detector', configs[0], '--phases', 'test', *SHORT, '--json', str(path)])
    assert {row['phase'] for row in json.loads(path.read_text())['rows']} == {'test'}


@pytest.mark.parametrize(
    ('name', 'part', 'key'),
    [
        ('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', 'backbone', 'init_cfg'),
        ('mmdet::ld/ld_r18-gflv1-r101_fpn_1x_coco.py', None, 'teacher_ckpt'),
    ],
)
def test_nothing_is_downloaded(name, part, key):
    model = Config.fromfile(find_config(name)).model
    assert (model[part] if part else model)[key]
    drop_pretrained(model)
    assert (model[part] if part else model)[key] is None and 'http' not in str(model)


def test_the_record_is_the_table_in_the_docs(capsys):
    main(['table', str(REPO / 'benchmarks' / 'cpu' / 'detectors.json')])
    assert capsys.readouterr().out.strip() in (REPO / 'docs' / 'speed.md').read_text()


XVIT = 'mask_rcnn_xvit_s_3x'


@pytest.mark.parametrize(
    ('argv', 'sentence'),
    [
        ([XVIT, '--beside', 'mmdet::swin/mask-rcnn_swin-t.py'], "mmdet has no config 'swin/mask-rcnn_swin-t.py'; did"),
        ([XVIT, '--beside', 'xvit_s_in1k'], "its default_scope is 'mmpretrain', not mmdet"),
        ([XVIT, '--beside', XVIT], f'name each config once, and not {XVIT} again'),
        ([XVIT, '--detections', '0'], '--detections must be at least 1, not 0'),
        ([XVIT, '--fused', '--phases', 'training'], 'which --phases training leaves out'),
    ],
)
def test_wrong_input_is_one_sentence(argv, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        main(['detector', *argv])
    shown = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and shown.startswith('error: ') and sentence in shown


def test_a_peer_cannot_be_fused(configs, capsys):
    with pytest.raises(SystemExit) as stop:
        main(['detector', configs[1], '--fused', *SHORT])
    assert stop.value.code == 2 and 'has no backbone of xvit_det to fuse' in capsys.readouterr().err
