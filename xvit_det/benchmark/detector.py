"""``detector``: where the time of a detector's training step and test step goes.

The detector's own parts are timed as they are called, each without the time spent in other parts. ``losses`` are the
heads' losses with the assignment of targets, ``predictions`` non-maximum suppression and the pasting of masks. The
backward pass is split where the gradients of all the backbone's maps have arrived.
"""

import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from xvit_det.benchmark.cases import PHASES
from xvit_det.benchmark.record import Record
from xvit_det.benchmark.screen import progress
from xvit_det.benchmark.timing import WARMUP, synchronize
from xvit_det.benchmark.training import build_loader, build_training, endless

ENTRIES = ('forward', 'loss', 'loss_and_predict', 'predict')  # the methods by which a detector calls its parts
INNER = {'loss_and_target': 'losses', 'loss_by_feat': 'losses', 'predict_by_feat': 'predictions'}
OTHER = 'other'


def measure_detector(
    cfg: Config, record: Record, *, phases: Sequence[str], device: str, repeats: int, checkpoint: str | None = None
) -> None:
    """Add a row for each part of a training step, of a test step, or of both.

    Args:
        cfg: A loaded MMDetection config.
        record: Where the rows go.
        phases: Of ``PHASES``.
        device: ``'cpu'`` or ``'cuda'``.
        repeats: Timed steps of each kind.
        checkpoint: Weights; with random ones no objects are found and no masks made.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model, optimizer = build_training(cfg, device, checkpoint)
        watch = Stopwatch()
        watch_model(watch, model)
        watch_backward(watch, model, optimizer)
        steps = dict(training=lambda data: model.train_step(data, optimizer), test=model.test_step)
        for phase in phases:
            training = phase == 'training'
            model.train(training)
            batches = endless(build_loader(cfg, PHASES[phase]))
            with torch.set_grad_enabled(training):
                parts = time_parts(watch, batches, steps[phase], repeats)
            total = sum(parts.values())
            for part, seconds in {**parts, 'total': total}.items():
                record.add(dict(phase=phase, part=part), ms=round(seconds * 1e3, 3), share=round(seconds / total, 4))


class Stopwatch:
    """Seconds by part. Entering a part inside another stops the outer one's clock until the inner one is left."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    def _switch(self) -> None:
        synchronize()
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._switch()
        self._stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def rename(self, name: str) -> None:
        """Count the rest of the running part under another name."""
        self._switch()
        self._stack[-1] = name

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count the calls of ``owner.method`` as the part ``name``."""
        function = getattr(owner, method)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        setattr(owner, method, timed)


def watch_model(watch: Stopwatch, model: nn.Module) -> None:
    """Time a detector's child modules, and the losses and predictions inside them."""
    for name, child in model.named_children():
        for method in ENTRIES:
            if hasattr(child, method):
                watch.watch(child, method, name)
    for module in model.modules():
        for method, name in INNER.items():
            if hasattr(module, method):
                watch.watch(module, method, name)


def watch_backward(watch: Stopwatch, model: Any, optimizer: Any) -> None:
    """Time the backward pass, split into heads with neck and backbone, and the optimizer."""
    watch.watch(optimizer, 'backward', 'backward: heads, neck')
    for method in ('step', 'zero_grad'):
        watch.watch(optimizer, method, 'optimizer')

    def split(module: nn.Module, inputs: tuple, maps: tuple[Tensor, ...]) -> None:
        trained = [m for m in maps if m.requires_grad]
        left = len(trained)

        def arrived(grad: Tensor) -> None:
            nonlocal left
            left -= 1
            if not left:
                watch.rename('backward: backbone')

        for m in trained:
            m.register_hook(arrived)

    model.backbone.register_forward_hook(split)


def time_parts(
    watch: Stopwatch, batches: Iterator[dict], step: Callable[[dict], Any], repeats: int
) -> dict[str, float]:
    """Median seconds of each part of a step, including the loading of its data."""
    turns: list[dict[str, float]] = []
    for _ in progress(range(WARMUP + repeats), 'steps'):
        watch.seconds.clear()
        with watch.part('data'):
            batch = next(batches)
        with watch.part(OTHER):
            step(batch)
        turns.append(dict(watch.seconds))
    turns = turns[WARMUP:]
    parts = dict.fromkeys(part for turn in turns for part in turn)
    return {part: statistics.median(turn.get(part, 0.0) for turn in turns) for part in parts}
