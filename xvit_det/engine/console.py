"""What a command shows on the screen: few lines that say what happens; the log file keeps all of OpenMMLab's."""

import logging
import warnings
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

# First words of log records that go to the file only.
FILE_ONLY = (
    '\n------------------------------------------------------------\nSystem environment',
    'Config:\n',
    'Hooks will be executed in the following order',
    'Distributed training is not used, all SyncBatchNorm',
    'paramwise_options',
    'Auto resumed from the latest checkpoint',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Exp name',
)


def _for_the_screen(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(FILE_ONLY)


class ScreenRunner(Runner):
    """mmengine's Runner with its environment dump, config dump and list of hooks in the log file only."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_for_the_screen)
        return logger


def import_quietly(scope: str) -> None:
    """Import what configs of ``scope`` (mmdet or mmpretrain) name, without remarks about optional packages."""
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for part in ('models', 'datasets', 'evaluation'):
            import_module(f'{scope}.{part}')
    if scope == 'mmdet':
        _silence_coco()


def _silence_coco() -> None:
    """Stop pycocotools from printing its progress and, at every evaluation, 24 lines that the log has in two."""
    from pycocotools import coco, cocoeval

    coco.print = cocoeval.print = lambda *args, **kwargs: None
