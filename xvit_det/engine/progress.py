"""How long training or an evaluation will take, as soon as that can be told."""

import sys
import time
from datetime import timedelta
from typing import Any

from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner

from xvit_det.stages import stage

SECONDS = 4.0  # of iterations, before their time is told


class EarlyProgress(Hook):
    """Logs the time left once, where MMEngine's first line would come later: that waits for 50 iterations or so."""

    def __init__(self) -> None:
        self.told: set[str] = set()  # 'train', 'val', 'test'
        self.start: dict[str, float] = {}
        self.done: dict[str, int] = {}

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        stage(None)
        self.start[mode], self.done[mode] = time.monotonic(), 0

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = 'train'
    ) -> None:
        self.done[mode] += 1
        done = self.done[mode]
        seconds = time.monotonic() - self.start[mode]
        if mode in self.told or seconds < SECONDS:
            return
        self.told.add(mode)
        if done >= min((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), default=sys.maxsize):
            return  # it has been told
        if mode == 'train':
            left = runner.max_iters - runner.iter - 1
        else:
            left = len(getattr(runner, f'{mode}_dataloader')) - done
        remaining = timedelta(seconds=round(left * seconds / done))
        iterations = f'{done} iteration{"s" if done > 1 else ""}'
        runner.logger.info(f'{mode}: {iterations} in {seconds:.0f} s, about {remaining} left for {left:,} more.')
