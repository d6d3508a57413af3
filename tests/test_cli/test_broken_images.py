"""Images that turn out to be broken in training: the command stops with their name, or goes on without them."""

import os

import mmcv
import pytest
from PIL import Image

from xvit_det.cli.train import main as train

# What the checks before training do not see: an image that changes later.
SKIP_CHECK = 'xvit_det.config.coco_data._check_some_images'
SHORT = ['--cfg-options', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=9']


@pytest.fixture
def run(coco_folder, write_config, tmp_path, monkeypatch, capfd):
    """``run(*argv)``: exit status and output of a training of which an image broke after the check."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SKIP_CHECK, lambda content, folder: [])

    def start(*argv: str) -> tuple[int, str]:
        status = 0
        try:
            train([write_config(coco_folder), '--work-dir', 'work', *argv])
        except SystemExit as stop:
            status = stop.code
        return status, ''.join(capfd.readouterr())

    return start


def lose_the_rest(path):
    """Write a JPEG whose second half is zeros, as an interrupted download leaves it: OpenCV reads it."""
    Image.effect_noise((64, 48), 50).save(path, format='JPEG')
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
    assert mmcv.imfrombytes(path.read_bytes()) is not None


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (lambda path: os.truncate(path, 0), 'cannot be read as an image: it is empty'),
        (lambda path: path.write_text('no image'), 'cannot be read as an image: it is of no image format'),
        (os.remove, 'does not exist'),
        (lambda path: Image.new('RGB', (48, 64)).save(path), 'is loaded as 48x64'),
        (lose_the_rest, 'cannot be read as an image: it is truncated'),
    ],
    ids=['empty', 'text', 'missing', 'turned', 'zeros'],
)
def test_training_stops_with_the_name(run, coco_folder, damage, reason, workers):
    damage(coco_folder / 'train' / '2.png')
    status, output = run(*SHORT, f'train_dataloader.num_workers={workers}')
    (line,) = [line for line in output.splitlines() if 'error: ' in line]
    assert status == 2 and line.startswith(f'error: {coco_folder}/train/2.png {reason}') and 'check-data' in line
    assert 'Traceback' not in output


@pytest.mark.parametrize('workers', [0, 2])
def test_training_goes_on_without_it(run, coco_folder, tmp_path, workers):
    (coco_folder / 'train' / '2.png').write_bytes(b'')
    status, output = run('--skip-broken-images', *SHORT, f'train_dataloader.num_workers={workers}')
    assert status == 0 and (tmp_path / 'work' / 'epoch_2.pth').is_file()
    assert output.count('2.png cannot be used') == 1 and 'Skipped 1 of 4 training images' in output


def test_a_switched_pipeline_is_guarded_too(coco_folder, write_config, tmp_path, monkeypatch, capfd):
    """mmdet's hook replaces the pipeline; the guard stays, and counts on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SKIP_CHECK, lambda content, folder: [])
    (coco_folder / 'train' / '2.png').write_bytes(b'')
    more = "train_dataloader['dataset'] = train_dataloader['dataset']['dataset']\n"
    more += "custom_hooks = [dict(type='PipelineSwitchHook', switch_epoch=1, switch_pipeline=pipeline)]\n"
    argv = [write_config(coco_folder, more), '--work-dir', 'work', '--skip-broken-images', *SHORT]
    train([*argv, 'train_dataloader.num_workers=2'])
    output = ''.join(capfd.readouterr())
    assert 'Switch pipeline now!' in output and output.count('2.png cannot be used') == 1
    assert 'Skipped 1 of 4 training images' in output


def test_all_images_are_broken(run, coco_folder):
    for path in (coco_folder / 'train').iterdir():
        path.write_bytes(b'')
    status, output = run('--skip-broken-images', *SHORT, 'train_dataloader.num_workers=2')
    assert status == 2 and '100 images in a row cannot be used' in output and 'Traceback' not in output


def test_an_image_of_the_evaluation_is_not_replaced(run, coco_folder):
    (coco_folder / 'val' / '1.png').write_bytes(b'')
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    status, output = run('--skip-broken-images', *options)
    assert status == 2 and 'val/1.png cannot be read' in output


def test_a_classifier_stops_with_the_name_too(tiny_imagenet_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    broken = next(tiny_imagenet_folder.rglob('*_2.JPEG'))
    broken.write_bytes(b'')
    short = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=6', 'train_dataloader.num_workers=0']
    options = ['--data-root', str(tiny_imagenet_folder), '--work-dir', 'work', '--cfg-options', *short]
    with pytest.raises(SystemExit) as stop:
        train(['fnet_tinyimagenet', *options])
    assert stop.value.code == 2 and f'{broken.name} cannot be read' in capfd.readouterr().err
