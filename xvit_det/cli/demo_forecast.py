"""How long the demo will train on the machine at hand, told after its first iterations, and how it takes less time."""

from collections.abc import Callable
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

WARM_UP, MEASURED = 5, 20  # iterations
PATIENCE = 7 * 60  # seconds; the demo is made for 5 to 6 minutes


class Forecast(Hook):
    """Says after the first iterations how long training will take.

    Args:
        say: Prints a line.
        slowdown: The time of all training, divided by that of as many first iterations.
        shorter: The command with a number of epochs, which is offered where training takes long; ``None``: none is.
    """

    def __init__(self, say: Callable[[str], None], slowdown: float, shorter: Callable[[int], str] | None) -> None:
        self.say = say
        self.slowdown = slowdown
        self.shorter = shorter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == WARM_UP + MEASURED:
            iteration = runner.message_hub.get_scalar('train/time').mean(MEASURED)  # from mmengine's IterTimerHook
            self.say(forecast(self.slowdown * iteration * runner.max_iters, runner.max_epochs, self.shorter))


def forecast(seconds: float, epochs: int, shorter: Callable[[int], str] | None) -> str:
    """The line for a training that will take these seconds."""
    line = f'Training will take about {_minutes(seconds)}.'
    fewer = max(1, int(epochs * PATIENCE / seconds))
    if shorter is None or fewer >= epochs:
        return line
    return f'{line} For about {_minutes(seconds * fewer / epochs)}, press Ctrl-C and run: {shorter(fewer)}'


def _minutes(seconds: float) -> str:
    return f'{max(1, round(seconds / 60))} min'
