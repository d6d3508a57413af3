"""The two commands end to end on drawn data: detection and classification, resume, learning-rate scaling, outputs."""

import pickle
from pathlib import Path

import pytest
import torch

from xvit_det.cli.test import main as evaluate
from xvit_det.cli.train import main as train


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_detection_trains_resumes_and_tests(coco_folder, write_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config = write_config('data/elsewhere')
    root = ['--data-root', str(coco_folder)]

    train([config, '--work-dir', 'first', '--auto-scale-lr', '--amp', *root, '--cfg-options', 'train_cfg.max_epochs=1'])
    first = load(tmp_path / 'first' / 'epoch_1.pth')
    assert first['meta']['iter'] == 2  # 4 images in batches of 2
    assert first['optimizer']['param_groups'][0]['lr'] == pytest.approx(1e-3 * 2 / 16)

    train([config, '--work-dir', 'second', '--resume', 'first/epoch_1.pth', *root])
    second = load(tmp_path / 'second' / 'epoch_2.pth')
    assert not (tmp_path / 'second' / 'epoch_1.pth').exists()
    assert second['meta']['iter'] == 4
    assert {state['step'].item() for state in second['optimizer']['state'].values()} == {4}

    capfd.readouterr()
    outputs = ['--out', 'predictions.pkl', '--show-dir', 'drawn']
    evaluate([config, 'second/epoch_2.pth', *root, *outputs])
    screen = capfd.readouterr().out
    assert 'weights matched, 0 missing, 0 unexpected' in screen
    assert 'System environment' not in screen and 'Average Precision' not in screen
    row = next(line for line in screen.splitlines() if '│ mask' in line)
    assert row.count('│') == 9 and '40.4' in row and 'a paper, Table 2' in screen
    predictions = pickle.loads(Path('predictions.pkl').read_bytes())
    assert {p['img_id'] for p in predictions} == {0, 1}
    assert sorted(p.name for p in Path('drawn').iterdir()) == ['0.png', '1.png']
    (log,) = Path('first').glob('*/*.log')
    assert 'System environment' in log.read_text()


def test_classification_trains_and_tests(cifar_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = ['--data-root', 'cifar', '--work-dir', 'work']
    train([cifar_config, *options])
    assert load(tmp_path / 'work' / 'epoch_1.pth')['meta']['iter'] == 2
    train([cifar_config, *options, '--resume', '--cfg-options', 'train_cfg.max_epochs=2'])  # from the last checkpoint
    assert load(tmp_path / 'work' / 'epoch_2.pth')['meta']['iter'] == 4
    evaluate([cifar_config, 'work/epoch_2.pth', *options, '--tta', '--cfg-options', 'paper.top1=82.0'])
    screen = capfd.readouterr().out
    assert any('top1' in line and '82.0' in line for line in screen.splitlines()), screen
    assert 'Evaluated 8 images.' in screen
    assert 'Loads checkpoint by' not in screen and 'OneDL' not in screen and 'save_param_scheduler' not in screen


def test_tiny_imagenet_trains_and_tests_by_its_shipped_config(tiny_imagenet_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = ['--data-root', str(tiny_imagenet_folder / 'tiny-imagenet-200'), '--work-dir', 'work']
    options += ['--cfg-options', 'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0']
    small = ['train_dataloader.num_workers=0', 'train_dataloader.batch_size=3', 'train_cfg.max_epochs=1']
    train(['fnet_tinyimagenet', *options, *small])
    assert load(tmp_path / 'work' / 'epoch_1.pth')['meta']['iter'] == 2
    assert (tmp_path / 'work' / 'best_accuracy_top1_epoch_1.pth').exists()
    evaluate(['fnet_tinyimagenet', 'work/epoch_1.pth', *options])
    screen = capfd.readouterr().out
    assert any('top5' in line and '49.9' in line for line in screen.splitlines()), screen  # the paper's 49.85


def test_modern_extras_train(tiny_imagenet_folder, modern_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=3', 'val_dataloader.num_workers=0']
    options = ['--data-root', str(tiny_imagenet_folder), '--work-dir', 'work', '--cfg-options', *short]
    train([modern_config('hybrid_fnet_tinyimagenet'), *options, 'train_dataloader.num_workers=0'])
    (group,) = load(tmp_path / 'work' / 'epoch_1.pth')['optimizer']['param_groups']
    assert group['weight_decay'] == 0.05 and 0 < group['lr'] < 1e-3  # still warming up
