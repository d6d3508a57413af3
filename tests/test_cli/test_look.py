"""``xvit-det look``: its pictures, what it prints, and a sentence for everything that is wrong."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import xvit_det
from xvit_det.cli.look import main as look
from xvit_det.datasets.shapes import ContextSpec, ensure_shapes
from xvit_det.hub import find_config

PICTURES = ('features.png', 'tokens.png', 'gradcam.png')


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A drawn image, an untrained detector with its config beside it, and classifiers without."""
    folder = tmp_path_factory.mktemp('look')
    scenes = ensure_shapes(tmp_path_factory.mktemp('data') / 'scenes', ContextSpec(num_train=1, num_val=1))
    shutil.copy(scenes / 'val2017' / '000000000001.png', folder / 'scene.png')
    for name in ('mask_rcnn_xvit_context', 'vin_cifar10', 'cct_cifar10'):
        torch.manual_seed(0)
        model = xvit_det.create_model(name)
        (folder / name).mkdir()
        torch.save(model.state_dict(), folder / name / 'checkpoint.pth')
    model = xvit_det.create_model('mask_rcnn_xvit_context')
    model.cfg.dump(folder / 'mask_rcnn_xvit_context' / find_config('mask_rcnn_xvit_context').name)
    cv2.imwrite(str(folder / 'small.png'), np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    (folder / 'text.jpg').write_text('no image')
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)


DETECTOR = 'mask_rcnn_xvit_context/checkpoint.pth'
CLASSIFIER = ('cct_cifar10/checkpoint.pth', 'small.png', '--config', 'cct_cifar10')


def test_pictures_of_a_detector(tmp_path, capsys):
    look([DETECTOR, 'scene.png', '--out', str(tmp_path / 'new'), '--score', '0', '--detection', '1'])
    printed = capsys.readouterr().out
    assert printed.startswith('scene.png: 0 ') and ', 9 ' in printed and '…' in printed
    for name in PICTURES:
        assert f'Figure: {tmp_path / "new" / name}' in printed
        assert cv2.imread(str(tmp_path / 'new' / name)).std() > 10


def test_pictures_of_a_classifier(tmp_path, capsys):
    look([*CLASSIFIER, '--out', str(tmp_path), '--point', '3', '30', '--block', '1'])
    assert capsys.readouterr().out.startswith('small.png: 0 ')
    assert all(cv2.imread(str(tmp_path / name)).std() > 10 for name in PICTURES)


def test_receptive_fields_side_by_side(tmp_path, capsys):
    configs = ('--config', 'mask_rcnn_xvit_context', '--config', 'vin_cifar10')
    files = (DETECTOR, 'vin_cifar10/checkpoint.pth')
    look([*files, 'small.png', *configs, '--receptive-field', '--out', str(tmp_path)])
    printed = capsys.readouterr().out
    assert 'mask_rcnn_xvit_context/checkpoint.pth: neck, stride 8: ' in printed and 'within 128 px' in printed
    assert 'vin_cifar10/checkpoint.pth: block ' in printed
    assert cv2.imread(str(tmp_path / 'receptive_field.png')).std() > 10


def test_checkpoints_of_one_name_are_told_apart(tmp_path, capsys):
    look([DETECTOR, f'./{DETECTOR}', 'scene.png', '--receptive-field', '--out', str(tmp_path)])
    names = [line.split(':')[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [DETECTOR] * 2 + [f'./{DETECTOR}'] * 2 + ['Figure']


def refusal(argv: list[str], capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as done:
        look(argv)
    return done.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    'argv, message',
    [
        ([DETECTOR, 'text.jpg'], 'text.jpg cannot be read as an image: it is of no image format'),
        ([DETECTOR, 'nowhere.png'], 'nowhere.png does not exist'),
        ([DETECTOR, 'scene.png', '--config', 'vin_cifar10'], 'checkpoint'),
        (['vin_cifar10/checkpoint.pth', 'scene.png'], 'there is no config beside'),
        ([DETECTOR, DETECTOR, 'scene.png'], '2 checkpoints side by side need --receptive-field'),
        ([DETECTOR, DETECTOR, DETECTOR, 'scene.png', '--receptive-field', *2 * ['--config', 'a']], '2 configs for 3'),
        ([DETECTOR, 'scene.png', '--out', 'scene.png'], '--out: scene.png cannot be written'),
        ([DETECTOR, 'scene.png', '--score', '2'], "'2' is not a number from 0 to 1"),
    ],
)
def test_wrong_arguments_stop_it(argv, message, capsys):
    code, error = refusal(argv, capsys)
    assert code == 2 and message in error and 'Traceback' not in error


@pytest.mark.parametrize(
    'argv, missing, message',
    [
        (['--score', '1'], 'gradcam.png', 'nothing with a score of at least 1 was found in the image'),
        (['--score', '0', '--detection', '100'], 'gradcam.png', 'detection 100 is not one of 0 to '),
        (['--score', '0', '--point', '5', '128'], 'tokens.png', 'point 5, 128 is not inside the image of 384 x 128'),
        (['--score', '0', '--block', '4'], 'tokens.png', 'block 4 is not one of 0 to 3'),
    ],
)
def test_a_picture_that_cannot_be_made_is_reported_after_the_others(argv, missing, message, tmp_path, capsys):
    code, error = refusal([DETECTOR, 'scene.png', '--out', str(tmp_path), *argv], capsys)
    assert code == 1 and error.splitlines() == [line for line in error.splitlines() if line.startswith('error: no ')]
    assert f'error: no {missing}: {message}' in error
    assert {path.name for path in tmp_path.iterdir()} == {*PICTURES} - {missing}
