"""Fixtures that several test files share."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import mmengine.config.utils
import numpy as np
import pytest
import torch
from PIL import Image

from xvit_det.hub import find_config

REPO = Path(__file__).resolve().parents[1]

sys.path.append(str(Path(sys.prefix, 'frameworks')))  # where tools/setup_env.py puts it

# Each `_base_ = 'mmpretrain::…'` reads all files of that package's model index: most of the time that a config takes.
mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)


@pytest.fixture
def fresh_compiler() -> None:
    """Forget what torch.compile did in earlier tests: it gives up on a method after eight models that share it."""
    torch.compiler.reset()


@pytest.fixture(scope='session')
def real_data() -> Callable[[str], Path]:
    """``real_data(name)``: a folder in ``$XVIT_DET_TEST_DATA``, or in ``../shared/data`` beside the clone."""

    def find(name: str) -> Path:
        root = Path(os.environ.get('XVIT_DET_TEST_DATA', REPO.parent / 'shared' / 'data')) / name
        if not root.is_dir():
            pytest.skip(f'no real images at {root}; set XVIT_DET_TEST_DATA to the folder that holds {name}/')
        return root

    return find


@pytest.fixture(scope='session')
def coco_tiny(real_data: Callable[[str], Path]) -> Path:
    """Folder with real photographs in COCO's layout."""
    return real_data('coco_tiny')


@pytest.fixture
def tiny_imagenet_folder(tmp_path: Path) -> Path:
    """Folder with a Tiny ImageNet of two classes, three training and one validation image of each, some grey."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'unpacked' / 'tiny-imagenet-200'
    words = {'n01443537': 'goldfish, Carassius auratus', 'n02002724': 'black stork, Ciconia nigra'}
    (folder / 'val' / 'images').mkdir(parents=True)
    files = [folder / 'val' / 'images' / f'val_{i}.JPEG' for i in range(2)]
    for wnid in words:
        images = folder / 'train' / wnid / 'images'
        images.mkdir(parents=True)
        files += [images / f'{wnid}_{i}.JPEG' for i in range(3)]
    for i, path in enumerate(files):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3)[: 2 + i % 2], dtype=np.uint8)).save(path)
    (folder / 'wnids.txt').write_text('\n'.join(words))
    (folder / 'words.txt').write_text(''.join(f'{wnid}\t{name}\n' for wnid, name in words.items()))
    rows = [f'val_{i}.JPEG\t{wnid}\t0\t0\t63\t63\n' for i, wnid in enumerate(reversed(words))]
    (folder / 'val' / 'val_annotations.txt').write_text(''.join(rows))
    return folder.parent


@pytest.fixture
def label_map_folder(tmp_path: Path) -> Path:
    """Folder as the shipped example for own label maps wants it: 4 training and 2 validation images, three classes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'mine'
    for split, count in (('train', 4), ('val', 2)):
        images, labels = folder / 'images' / split, folder / 'labels' / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i in range(count):
            values = np.zeros((48, 64), np.uint8)
            values[: 4 * i + 8, :30] = 1
            values[30:, 30:] = 2
            values[:, -2:] = 255
            colours = np.stack([40 * values, 255 - values, rng.integers(0, 60, values.shape)], axis=-1)
            Image.fromarray(colours.astype(np.uint8)).save(images / f'{i}.jpg')
            Image.fromarray(values).save(labels / f'{i}.png')
    return folder


@pytest.fixture
def modern_config(tmp_path: Path) -> Callable[[str], str]:
    """``modern_config(name)``: the shipped config with the modern extras, by the lines in their file's comment."""
    extras = REPO / 'configs' / '_base_' / 'schedules' / 'vix_modern.py'
    lines = [line.removeprefix('#   ') for line in extras.read_text().splitlines() if line.startswith('#   ')]

    def write(name: str) -> str:
        text = '\n'.join(lines).replace('hybrid_vin_cifar10.py', str(find_config(name)))
        path = tmp_path / 'modern.py'
        path.write_text(text.replace('../../_base_/schedules/vix_modern.py', str(extras)))
        return str(path)

    return write
