"""``detector``: where the time of a detector's training step and test step goes.

The detector's own parts are timed as they are called, each without what it calls of another part. ``losses`` are the
heads' losses with the assignment of targets, ``predictions`` their non-maximum suppression and the pasting of masks.
The backward pass is split where the gradients of all the backbone's maps are there.
"""

import argparse
import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xvit_det.benchmark.models import size_name
from xvit_det.benchmark.record import open_record
from xvit_det.benchmark.screen import Bar, show_table
from xvit_det.benchmark.timing import synchronize
from xvit_det.benchmark.training import build_loader, build_training, config_scope, endless
from xvit_det.config.data_check import check_data
from xvit_det.config.load import load_config
from xvit_det.errors import InputError

ENTRIES = ('forward', 'loss', 'loss_and_predict', 'predict')  # by which a detector calls its parts
LOSSES = ('loss_and_target', 'loss_by_feat')
PREDICTIONS = ('predict_by_feat',)
OTHER = 'other'
WARMUP = 1
BOXES = 10  # in each random image


class Stopwatch:
    """Seconds by part. A part that is entered inside another stops the other's clock until it is left."""

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
        """From now on the running part is another."""
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
    """Time the parts of a detector: its child modules, and in all of them losses and predictions."""
    for name, child in model.named_children():
        for method in ENTRIES:
            if hasattr(child, method):
                watch.watch(child, method, name)
    for module in model.modules():
        for methods, name in ((LOSSES, 'losses'), (PREDICTIONS, 'predictions')):
            for method in methods:
                if hasattr(module, method):
                    watch.watch(module, method, name)


def watch_backward(watch: Stopwatch, model: nn.Module, optimizer: Any) -> None:
    """Time the backward pass, of heads and neck and of the backbone apart, and the optimiser."""
    watch.watch(optimizer, 'backward', 'backward: heads, neck')
    for method in ('step', 'zero_grad'):
        watch.watch(optimizer, method, 'optimizer')

    def split(module: nn.Module, inputs: tuple, maps: tuple[Tensor, ...]) -> None:
        maps = [m for m in maps if m.requires_grad]
        left = len(maps)

        def arrived(grad: Tensor) -> None:
            nonlocal left
            left -= 1
            if not left:
                watch.rename('backward: backbone')

        for m in maps:
            m.register_hook(arrived)

    model.backbone.register_forward_hook(split)


def run(args: argparse.Namespace) -> None:
    """The command."""
    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options)
    if cfg.get('default_scope') != 'mmdet':
        raise InputError(f'config {args.config} is no MMDetection config: its default_scope is not mmdet')
    if not args.random:
        check_data(cfg, ('train', 'test'))
    record = open_record(args, config=args.config, input=_input(args))
    with config_scope(cfg), Bar(2 * (args.repeats + WARMUP)) as bar:
        model, optimizer = build_training(cfg, args.device, args.checkpoint)
        watch = Stopwatch()
        watch_model(watch, model)
        watch_backward(watch, model, optimizer)
        bar.describe('training steps')
        batches = random_batches(model, args) if args.random else endless(build_loader(cfg, 'train'))
        model.train()
        training = measure(watch, batches, lambda batch: model.train_step(batch, optimizer), args.repeats, bar)
        bar.describe('test steps')
        batches = random_batches(model, args) if args.random else endless(build_loader(cfg, 'test'))
        model.eval()
        with torch.no_grad():
            test = measure(watch, batches, model.test_step, args.repeats, bar)
    for phase, parts in (('training', training), ('test', test)):
        record.add(part_rows(phase, parts), ('phase', 'part'))
    show(record.rows)


def _input(args: argparse.Namespace) -> str:
    return f'{args.batch} random images, {size_name(args.random)}' if args.random else "the config's data"


def measure(
    watch: Stopwatch, batches: Iterator[dict], step: Callable[[dict], Any], repeats: int, bar: Bar
) -> dict[str, float]:
    """Median seconds of each part of a step, loading its data included."""
    turns: list[dict[str, float]] = []
    for _ in range(WARMUP + repeats):
        watch.seconds.clear()
        with watch.part('data'):
            batch = next(batches)
        with watch.part(OTHER):
            step(batch)
        turns.append(dict(watch.seconds))
        bar.tick()
    turns = turns[WARMUP:]
    parts = dict.fromkeys(part for turn in turns for part in turn)
    return {part: statistics.median(turn.get(part, 0.0) for turn in turns) for part in parts}


def part_rows(phase: str, parts: dict[str, float]) -> list[dict]:
    """Milliseconds and share of each part, and the total."""
    total = sum(parts.values())
    rows = [
        dict(phase=phase, part=part, ms=round(seconds * 1e3, 3), share=round(seconds / total, 4))
        for part, seconds in parts.items()
    ]
    return [*rows, dict(phase=phase, part='total', ms=round(total * 1e3, 3), share=1.0)]


def show(rows: list[dict]) -> None:
    """Print both steps side by side."""
    found = {(row['part'], row['phase']): row for row in rows}
    parts = [part for part in dict.fromkeys(row['part'] for row in rows) if part not in (OTHER, 'total')]
    cells = []
    for part in [*parts, OTHER, 'total']:
        both = [found.get((part, phase)) for phase in ('training', 'test')]
        figures = [(f'{row["ms"]:.1f}', f'{row["share"]:.1%}') if row else (None, None) for row in both]
        cells.append([part, *figures[0], *figures[1]])
    columns = ('part', 'training, ms', 'share', 'test, ms', 'share ')
    show_table('Where the time goes: medians', columns, cells)


def random_batches(model: nn.Module, args: argparse.Namespace) -> Iterator[dict]:
    """The same batch of noise with random boxes and masks, again and again."""
    from mmdet.testing import demo_mm_inputs

    batch = demo_mm_inputs(
        batch_size=args.batch,
        image_shapes=(3, *args.random),
        num_items=[BOXES] * args.batch,
        num_classes=_num_classes(model),
        with_mask=True,
        device=args.device,
    )
    while True:
        yield batch


def _num_classes(model: nn.Module) -> int:
    """Of the head that decides last, at least two, as mmdet's random labels need."""
    numbers = [getattr(module, 'num_classes', None) for module in model.modules()]
    return max([2, *(number for number in numbers if isinstance(number, int))])
