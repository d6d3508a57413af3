"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def coco_tiny() -> Path:
    """Folder with real photographs in COCO's layout: ``$XVIT_DET_TEST_DATA`` or ``../shared/data`` beside the clone."""
    root = Path(os.environ.get('XVIT_DET_TEST_DATA', REPO.parent / 'shared' / 'data')) / 'coco_tiny'
    if not root.is_dir():
        pytest.skip(f'no real photographs at {root}; set XVIT_DET_TEST_DATA to the folder that holds coco_tiny/')
    return root
