"""Importing OpenMMLab without its remarks."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO


@contextmanager
def without_log(level: str = 'WARNING') -> Iterator[None]:
    """Drop what is logged below a level, such as every parameter that is initialised or optimized."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def without_remarks() -> Iterator[None]:
    """Drop what is printed to stdout, and Python's warnings."""
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def import_quietly(scope: str) -> None:
    """Import what configs of ``scope`` (mmdet, mmpretrain or mmseg) name, without remarks about optional packages."""
    with without_remarks():
        for part in ('models', 'datasets', 'evaluation'):
            import_module(f'{scope}.{part}')
    if scope == 'mmdet':
        _silence_coco()
    elif scope == 'mmseg':  # warns of its own defaults whenever a model or a hook is built
        warnings.filterwarnings('ignore', category=UserWarning, module=r'mmseg\.')


def _silence_coco() -> None:
    """Stop pycocotools from printing its progress and, at every evaluation, 24 lines that the log has in two."""
    from pycocotools import coco, cocoeval

    coco.print = cocoeval.print = lambda *args, **kwargs: None
