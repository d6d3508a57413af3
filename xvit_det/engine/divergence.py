"""Stop training whose loss or weights become NaN or infinite: MMEngine trains on, and saves such weights."""

import time
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from xvit_det.errors import RunError
from xvit_det.weights.files import not_finite

MOST_SKIPPED = 20  # steps in a row that a loss scaler may leave out


class StopAtDivergence(Hook):
    """Stops at the first loss that is not finite, and before weights are saved that are not.

    With a loss scaler (mixed precision in float16) such a step is left out, which is how the scaler finds its factor,
    so the training stops after ``MOST_SKIPPED`` of them in a row.
    """

    priority = 'ABOVE_NORMAL'  # before checkpoints are saved

    def __init__(self) -> None:
        self.skipped = 0
        self.began = time.time()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Look at the losses, which the logger reads from the device in each iteration, too.

        Raises:
            RunError: One is not finite.
        """
        losses = {
            name: value for name, value in (outputs or {}).items() if 'loss' in name and isinstance(value, Tensor)
        }
        name = not_finite(losses)
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self.skipped = self.skipped + 1 if name else 0
        if name and (self.skipped == MOST_SKIPPED or scaler is None or not scaler.is_enabled()):
            single = not_finite({key: value for key, value in losses.items() if key != 'loss'}) or name
            self._stop(runner, f'{single} is {losses[single].float().mean():g} in iteration {runner.iter + 1}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the weights: a step from a finite loss can overflow, too.

        Raises:
            RunError: One is not finite.
        """
        if name := not_finite(checkpoint['state_dict']):
            self._stop(runner, f'{name} has values that are NaN or infinite')

    def _stop(self, runner: Runner, what: str) -> None:
        last = self._last_checkpoint(runner)
        kept = f'the last checkpoint with finite weights is {last}' if last else 'no checkpoint was saved before'
        raise RunError(
            f'the training diverged: {what}; {kept}; try a lower learning rate, a '
            'longer warm-up, or optim_wrapper.clip_grad'
        )

    def _last_checkpoint(self, runner: Runner) -> str | None:
        """What this training has saved last, or was resumed from."""
        note = Path(runner.work_dir, 'last_checkpoint')
        if not note.is_file() or (note.stat().st_mtime < self.began and not runner._resume):
            return None
        path = note.read_text().strip()
        return path if Path(path).is_file() else None
