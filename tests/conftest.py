"""Fixtures that several test files share."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def coco_tiny() -> Path:
    """Folder with real photographs in COCO's layout: ``$XVIT_DET_TEST_DATA`` or ``../shared/data`` beside the clone."""
    root = Path(os.environ.get('XVIT_DET_TEST_DATA', REPO.parent / 'shared' / 'data')) / 'coco_tiny'
    if not root.is_dir():
        pytest.skip(f'no real photographs at {root}; set XVIT_DET_TEST_DATA to the folder that holds coco_tiny/')
    return root


@pytest.fixture
def tiny_imagenet_folder(tmp_path: Path) -> Path:
    """Folder with a Tiny ImageNet of two classes, three training and one validation picture of each, some grey."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'unpacked' / 'tiny-imagenet-200'
    words = {'n01443537': 'goldfish, Carassius auratus', 'n02002724': 'black stork, Ciconia nigra'}
    (folder / 'val' / 'images').mkdir(parents=True)
    pictures = [folder / 'val' / 'images' / f'val_{i}.JPEG' for i in range(2)]
    for wnid in words:
        images = folder / 'train' / wnid / 'images'
        images.mkdir(parents=True)
        pictures += [images / f'{wnid}_{i}.JPEG' for i in range(3)]
    for i, path in enumerate(pictures):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3)[: 2 + i % 2], dtype=np.uint8)).save(path)
    (folder / 'wnids.txt').write_text('\n'.join(words))
    (folder / 'words.txt').write_text(''.join(f'{wnid}\t{name}\n' for wnid, name in words.items()))
    rows = [f'val_{i}.JPEG\t{wnid}\t0\t0\t63\t63\n' for i, wnid in enumerate(reversed(words))]
    (folder / 'val' / 'val_annotations.txt').write_text(''.join(rows))
    return folder.parent
