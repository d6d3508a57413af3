"""Training that is asked to stop: Slurm sends SIGTERM when the time limit of a job is reached."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from xvit_det.engine.checkpoints import LAST

INTERRUPTED = 'interrupted.pth'


class Stopped(Exception):
    """Training was asked to stop, and has saved a checkpoint."""


class StopOnRequest(Hook):
    """Saves ``interrupted.pth`` after the iteration in which SIGTERM arrives, and raises :class:`Stopped`.

    Of several processes all stop after the same iteration.
    """

    priority = 'LOWEST'  # after the hooks that belong to the iteration, such as that of the learning rate
    asked = False

    def before_train(self, runner: Runner) -> None:
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if self._anybody_asked():
            self._stop(runner, runner.epoch, runner.iter + 1)

    def after_val_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        # Processes may have different numbers of these iterations, so that they cannot agree here.
        if self.asked:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)  # puts the trained weights back
            self._stop(runner, runner.epoch, runner.iter)

    def _anybody_asked(self) -> bool:
        if get_world_size() == 1:
            return self.asked
        asked = torch.tensor(int(self.asked))
        all_reduce(asked, 'max')
        return bool(asked)

    def _stop(self, runner: Runner, epoch: int, iteration: int) -> None:
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=dict(epoch=epoch, iter=iteration))
        path = Path(runner.work_dir, INTERRUPTED)
        if is_main_process():
            Path(runner.work_dir, LAST).write_text(str(path))
        raise Stopped(f'Stopped by SIGTERM after iteration {iteration}; saved as {path}. Go on with --resume.')


def stay_alive(init: Callable[[int], None] | None, worker: int) -> None:
    """A ``worker_init_fn`` around another: the worker process ends by a SIGTERM of its parent, but not by one of Slurm.

    Slurm signals all processes. A worker that ends by itself breaks off the iteration.
    """
    if hasattr(signal, 'sigwaitinfo'):  # on Linux
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if init:
        init(worker)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
