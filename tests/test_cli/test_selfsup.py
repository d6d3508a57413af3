"""Self-supervised pretraining by the command, on folders of images, and its weights in a detector."""

import shutil

import pytest
import torch
from PIL import Image

import xvit_det
from xvit_det.cli.train import main as train
from xvit_det.hub import find_config

QUICK = [
    'train_dataloader.num_workers=0',
    'train_dataloader.batch_size=4',
    'train_dataloader.dataset.pipeline.1.transforms.0.0.scale=64',
    'train_cfg.max_epochs=1',
    'model.queue_len=16',
]


@pytest.mark.parametrize('method', ['densecl', 'mocov2'])
def test_photographs_to_a_detector(coco_tiny, tmp_path, monkeypatch, capfd, method):
    monkeypatch.chdir(tmp_path)
    name = f'{method}_xvit_s_in1k_200e'
    photographs = ['train_dataloader.dataset.data_prefix=train2017', 'train_dataloader.dataset.indices=12']
    options = [*QUICK, *photographs, 'default_hooks.logger.interval=1']
    train([name, '--data-root', str(coco_tiny), '--cfg-options', *options])
    screen = capfd.readouterr()
    losses = [float(line.split(' loss: ')[1].split()[0]) for line in screen.out.splitlines() if ' loss: ' in line]
    assert len(losses) == 3 and torch.tensor(losses).isfinite().all()
    assert 'is skipped since' not in screen.out + screen.err  # for each weight of the momentum encoder

    checkpoint = tmp_path / 'work_dirs' / name / 'epoch_1.pth'
    saved = torch.load(checkpoint, weights_only=True)['state_dict']
    start = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.')
    base = find_config('mask_rcnn_xvit_s_3x')
    (tmp_path / 'mine.py').write_text(f'_base_ = [{str(base)!r}]\nmodel = dict(backbone=dict(init_cfg={start}))')
    detector = xvit_det.create_model('mine.py')
    log = capfd.readouterr()
    loaded = {key: value for key, value in detector.backbone.state_dict().items() if not key.startswith('pyramid.')}
    pretrained = {key.removeprefix('backbone.'): value for key, value in saved.items() if key.startswith('backbone.')}
    assert loaded.keys() == pretrained.keys() and any('.attn.' in key for key in loaded)
    for key, value in loaded.items():
        assert torch.equal(value, pretrained[key]), key
    assert f'{len(loaded)} matched' in log.out + log.err and '0 unexpected' in log.out + log.err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of five images, one of them in a folder of its own, and a text."""
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / 'photos' / 'holidays'
    inside.mkdir(parents=True)
    for i in range(5):
        Image.new('RGB', (40, 40), (50 * i, 99, 0)).save((inside if i else inside.parent) / f'{i}.JPG')
    (inside / 'notes.txt').write_text('not an image')
    return inside.parent


def fail(*argv: str, capsys) -> str:
    with pytest.raises(SystemExit):
        train([*argv])
    return capsys.readouterr().err


def test_any_folder_of_images(folder, capsys):
    options = [*QUICK, 'model.backbone.arch=tiny', 'model.neck.in_channels=192']
    argv = ['mocov2_xvit_s_in1k_200e', '--data-root', 'photos', '--cfg-options', *options]
    assert 'missing photos/train (images)' in fail(*argv, capsys=capsys)
    argv.append('train_dataloader.dataset.data_prefix=.')
    train(argv)
    assert (folder.parent / 'work_dirs' / 'mocov2_xvit_s_in1k_200e' / 'epoch_1.pth').is_file()
    shutil.rmtree(folder / 'holidays')
    assert 'photos and the folders in it hold 1 images' in fail(*argv, capsys=capsys)


def test_a_queue_that_holds_no_whole_batches(folder, capsys):
    argv = ['--data-root', 'photos', '--cfg-options', *QUICK, 'train_dataloader.batch_size=5']
    assert 'queue_len=16 is not a multiple of the batch size 5' in fail(
        'densecl_xvit_s_in1k_200e', *argv, capsys=capsys
    )
