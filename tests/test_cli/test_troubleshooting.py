"""The error messages that docs/troubleshooting.md quotes are those that the mistakes raise."""

import argparse
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from mmengine.registry import DATASETS

import xvit_det
from xvit_det import ViX, XViT
from xvit_det.cli.test import main as evaluate
from xvit_det.cli.train import main as train
from xvit_det.engine.divergence import StopAtDivergence
from xvit_det.engine.image_loading import guard_loading
from xvit_det.errors import INSTALL_OPENMMLAB, LocalError, RunError
from xvit_det.hub import find_config

PAGE = (Path(__file__).resolve().parents[2] / 'docs' / 'troubleshooting.md').read_text()
# Heading: the message below it, white space made single.
QUOTED = {
    heading: ' '.join(message.split())
    for heading, message in re.findall(r'^## (.+?)\n.*?^```text\n(.*?)^```', PAGE, flags=re.MULTILINE | re.DOTALL)
}
CUSTOM = 'mask_rcnn_xvit_s_custom'
CLASSES = [f'{split}_dataloader.dataset.metainfo.classes=[square,bar]' for split in ('train', 'val', 'test')]


@pytest.fixture
def mine(tmp_path, draw_coco, monkeypatch) -> Path:
    """A folder with data/mine/ as configs/mask_rcnn_xvit_s_custom.py expects it, of the classes square and bar."""
    folder = draw_coco(tmp_path / 'data' / 'mine')
    for split in ('train', 'val'):
        (folder / 'annotations' / f'{split}.json').rename(folder / f'{split}.json')
    monkeypatch.chdir(tmp_path)
    return folder


def of_a_command(run: Callable[[list[str]], None], *argv: str) -> Callable[..., str]:
    def message(capsys: pytest.CaptureFixture) -> str:
        with pytest.raises(SystemExit):
            run(list(argv))
        return capsys.readouterr().err

    return message


def of(error: type[Exception], provoke: Callable[[], object]) -> Callable[..., str]:
    def message(capsys: pytest.CaptureFixture) -> str:
        with pytest.raises(error) as raised:
            provoke()
        return f'{error.__name__}: {raised.value}'

    return message


def load_other_weights() -> None:
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(1)}), 'resnet50.pth')
    XViT(arch='tiny', init_cfg=dict(type='Pretrained', checkpoint='resnet50.pth')).init_weights()


def load_another_mixer() -> None:
    torch.save(dict(model=timm.create_model('xcit_nano_12_p16_224').state_dict()), 'xcit.pth')
    XViT(arch='nano_12', init_cfg=dict(type='Pretrained', checkpoint='xcit.pth')).init_weights()


def load_arguments() -> None:
    torch.save(dict(model=dict(a=torch.zeros(1)), args=argparse.Namespace(lr=1)), 'training.pth')
    xvit_det.create_model('xcit_nano_12_p16_in1k', pretrained='training.pth')


def load_after_fusing() -> None:
    backbone = XViT(arch='tiny').eval()
    weights = backbone.state_dict()
    backbone.fuse().load_state_dict(weights)


def forget_the_neck() -> None:
    config = "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n"
    Path('c.py').write_text(config + "model = dict(backbone=dict(_delete_=True, type='XViT', arch='small'))")
    xvit_det.create_model('c.py')(torch.zeros(1, 3, 256, 256))


def call_a_compiled_op() -> None:
    import mmcv._ext
    from mmcv.ops import border_align

    if not mmcv._ext.get_compiler_version().startswith('none'):
        pytest.skip('this mmcv has its compiled ops')
    border_align(torch.zeros(1, 8, 4, 4), torch.zeros(1, 16, 4), 1)


def train_without_a_map(capsys: pytest.CaptureFixture) -> str:
    config = "_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\ncustom_imports = dict(imports=['xvit_det'])\n"
    backbone = "backbone=dict(_delete_=True, type='XViT', arch='tiny', out_strides=(8, 16, 32))"
    Path('c.py').write_text(f'{config}model = dict({backbone}, neck=dict(in_channels=[192] * 3))')
    return of_a_command(train, 'c.py')(capsys)


def train_with_a_box_of_nan(capsys: pytest.CaptureFixture) -> str:
    path = Path('data/mine/train.json')
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'][0] = math.nan
    path.write_text(json.dumps(content))
    return of_a_command(train, CUSTOM, '--cfg-options', *CLASSES)(capsys)


def train_with_a_mistake(mistake: str) -> Callable[..., str]:
    def message(capsys: pytest.CaptureFixture) -> str:
        Path('mine.py').write_text(f"_base_ = '{find_config(CUSTOM)}'\n{mistake}\n")
        return of_a_command(train, 'mine.py', '--cfg-options', *CLASSES)(capsys)

    return message


def diverge(capsys: pytest.CaptureFixture) -> str:
    nan = dict(loss=torch.tensor(math.nan))
    runner = SimpleNamespace(iter=0, optim_wrapper=None, work_dir='work', _resume=False)
    return of(RunError, lambda: StopAtDivergence().after_train_iter(runner, 0, outputs=nan))(capsys).replace(
        'RunError', 'error'
    )


def load_a_file(name: str, content: Any) -> Callable[..., str]:
    def message(capsys: pytest.CaptureFixture) -> str:
        if isinstance(content, str):
            Path(name).write_text(content)
        else:
            torch.save(content, name)
        return of_a_command(evaluate, CUSTOM, name, '--cfg-options', *CLASSES, 'test_dataloader.num_workers=0')(capsys)

    return message


def load_an_empty_image() -> None:
    Path('data/mine/train/0.png').write_bytes(b'')
    folder = dict(type='CocoDataset', data_root='data/mine', ann_file='train.json', data_prefix=dict(img='train/'))
    dataset = DATASETS.build({**folder, 'pipeline': [dict(type='LoadImageFromFile')], '_scope_': 'mmdet'})
    guard_loading(dataset)
    dataset[0]


MISTAKES = {
    'A name in a config that nothing reads': train_with_a_mistake('train_cfgs = dict(max_epochs=3)'),
    'A class or an argument in a config that does not exist': train_with_a_mistake(
        "custom_hooks = [dict(type='EMAHok')]"
    ),
    'The training diverged': diverge,
    'A checkpoint that is not finite': load_a_file('nan.pth', dict(weight=torch.tensor(math.nan))),
    'A file that is no checkpoint': load_a_file('text.pth', 'hello'),
    'Annotations are wrong': train_with_a_box_of_nan,
    'An image cannot be loaded': lambda capsys: of(LocalError, load_an_empty_image)(capsys).replace(
        'LocalError', 'error'
    ),
    'Strides of maps and heads differ': train_without_a_map,
    'The data is not there': of_a_command(train, 'mask_rcnn_xvit_s_3x'),
    'Class names do not match': of_a_command(train, CUSTOM),
    'The number of classes does not match': of_a_command(
        train, CUSTOM, '--cfg-options', *CLASSES, 'model.roi_head.bbox_head.num_classes=80'
    ),
    'An option changes nothing': of_a_command(
        train, 'mask_rcnn_xvit_s_3x', '--cfg-options', 'optim_wraper.optimizer.lr=1e-5'
    ),
    'A checkpoint of another model': of_a_command(
        evaluate, CUSTOM, 'resnet50.pth', '--cfg-options', *CLASSES, 'test_dataloader.num_workers=0'
    ),
    'Pretrained weights of another model': of(xvit_det.InputError, load_other_weights),
    'Published weights of another model': of(xvit_det.InputError, load_another_mixer),
    'A file that holds more than weights': of(xvit_det.InputError, load_arguments),
    'The neck expects other channels': of(RuntimeError, forget_the_neck),
    'Too few tokens for the landmarks': of(
        xvit_det.InputError, lambda: ViX(arch='tiny', mixer='nystrom')(torch.zeros(1, 3, 96, 96))
    ),
    'A mixer that is bound to one grid': of(
        xvit_det.InputError, lambda: ViX(arch='tiny', mixer='mlp')(torch.zeros(1, 3, 256, 256))
    ),
    'Weights and fuse()': of(xvit_det.InputError, load_after_fusing),
    'An op that exists only compiled': of(NotImplementedError, call_a_compiled_op),
}


@pytest.mark.parametrize('heading', MISTAKES)
def test_message(heading, mine, capsys):
    if heading == 'A checkpoint of another model':
        torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(1)}), 'resnet50.pth')
    message = ' '.join(MISTAKES[heading](capsys).split())
    assert QUOTED[heading] in message


def test_messages_that_need_another_environment():
    assert QUOTED['No OpenMMLab'] in f'ModuleNotFoundError: create_model needs mmengine: {INSTALL_OPENMMLAB}'
    from mmdet.registry import MODELS

    with pytest.raises(KeyError) as raised:
        MODELS.build(dict(type='XVit'))
    assert QUOTED['XViT is not in the registry'] in f'KeyError: {raised.value}'.replace('XVit', 'XViT')


def test_every_quotation_is_checked():
    assert set(QUOTED) == {*MISTAKES, 'No OpenMMLab', 'XViT is not in the registry'}
