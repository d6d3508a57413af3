"""Checkpoints that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from xvit_det.errors import InputError

PART = '.part'  # the end of the name that a file has while it is written
LAST = 'last_checkpoint'  # MMEngine's file with the path of the newest checkpoint


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file under another name in its folder, and rename it once all of it is on the disk.

    Args:
        path: Where the file is in the end. Until then an older one stays there.

    Yields:
        The path to write to. Nothing is left there if writing fails.

    Raises:
        InputError: The disk is full, or the file cannot be written for another reason.
    """
    part = path.with_name(path.name + PART)
    try:
        yield part
        with part.open('rb+') as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise InputError(
            f'{path} cannot be written: {error.strerror or error}; earlier checkpoints are kept'
        ) from error
    finally:
        part.unlink(missing_ok=True)


class SafeCheckpointHook(CheckpointHook):
    """MMEngine's, except that it removes the oldest checkpoint of ``max_keep_ckpts`` after it has written the new one.

    MMEngine's removes it before: training with ``max_keep_ckpts=1`` that is killed in between has lost everything.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        oldest = None
        if self.max_keep_ckpts > 0 and len(self.keep_ckpt_ids) == self.max_keep_ckpts:
            oldest = self.filename_tmpl.format(self.keep_ckpt_ids[0])
            if self.keep_ckpt_ids[-1] != step:  # else it is saved once more, after a validation
                self.keep_ckpt_ids.popleft()
        super()._save_checkpoint_with_step(runner, step, meta)
        kept = [self.filename_tmpl.format(kept) for kept in getattr(self, 'keep_ckpt_ids', ())]
        if oldest and oldest not in kept and is_main_process():
            path = self.file_backend.join_path(self.out_dir, oldest)
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
