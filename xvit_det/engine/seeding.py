"""Random numbers that depend on the seed and the iteration alone: resumed training equals uninterrupted training.

OpenMMLab seeds once, when training starts, so that resuming would draw the numbers of the first iteration again.
"""

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader, get_worker_info

MODEL, DATA = 0, 1  # what draws the numbers: neither must get those of the other


def set_seed(*numbers: int) -> None:
    """Seed Python, NumPy and PyTorch, on all devices, with a hash of these numbers."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@dataclass
class Position:
    """Where a data loader stands, in batches since the start of the training: the epoch's first one, the next one."""

    epoch: int = 0
    start: int = 0


class SeededBatches:
    """A batch sampler that leaves out what comes before the position, and seeds where no worker process does.

    It is asked for a batch just before that is loaded.

    Args:
        batches: The batch sampler that it stands in for.
        position: Moves on at the end of an epoch.
        seed: What :func:`set_seed` takes before the number of the batch; empty where workers load.
    """

    def __init__(self, batches: Any, position: Position, seed: tuple[int, ...]) -> None:
        self.batches, self.position, self.seed = batches, position, seed

    def __iter__(self) -> Iterator[list[int]]:
        for number, batch in enumerate(self.batches, self.position.epoch):
            if number < self.position.start:
                continue
            if self.seed:
                set_seed(*self.seed, number)
            yield batch
        self.position.epoch = self.position.start = self.position.epoch + len(self)

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)


class SeededWorker:
    """The two functions that the worker processes of a data loader call, which seed them before each batch.

    Worker w of W loads the batches w, w + W, w + 2 W, ... of an epoch.

    Args:
        loader: Whose functions are called, too.
        position: At the start of the workers. Those that outlive an epoch count on from there.
        seed: What :func:`set_seed` takes before the number of the batch.
    """

    def __init__(self, loader: DataLoader, position: Position, seed: tuple[int, ...]) -> None:
        self._init, self._collate = loader.worker_init_fn, loader.collate_fn
        self.position, self.seed, self.workers = position, seed, loader.num_workers
        self.epoch_length = sys.maxsize if isinstance(loader.sampler, InfiniteSampler) else len(loader)

    def init(self, worker: int) -> None:
        """The ``worker_init_fn``: the first thing that a worker does."""
        if self._init:
            self._init(worker)
        self._numbers = self._own_batches(worker)
        set_seed(*self.seed, next(self._numbers, 0))

    def collate(self, samples: list) -> Any:
        """The ``collate_fn``: the last thing that happens to a batch."""
        batch = self._collate(samples)
        if get_worker_info():
            set_seed(*self.seed, next(self._numbers, 0))
        return batch

    def _own_batches(self, worker: int) -> Iterator[int]:
        start, end = self.position.start, self.position.epoch + self.epoch_length
        while worker < self.epoch_length:
            yield from range(start + worker, end, self.workers)
            start, end = end, end + self.epoch_length


def seed_loading(loader: DataLoader, seed: int, rank: int) -> None:
    """Make a data loader seed each batch by its number, which :class:`SeedIterations` tells when training resumes."""
    if loader.batch_sampler is None:
        return
    position, numbers = Position(), (seed, DATA, rank)
    worker = SeededWorker(loader, position, numbers)
    loader.worker_init_fn, loader.collate_fn = worker.init, worker.collate
    # A loader that is built refuses other batches, which might not fit it. These are the same ones.
    vars(loader)['batch_sampler'] = SeededBatches(loader.batch_sampler, position, () if loader.num_workers else numbers)


class SeedIterations(Hook):
    """Seeds each iteration by its number, and lets training that was stopped within an epoch continue from there.

    MMEngine would start such an epoch again from its first image.
    """

    resumed: dict[str, Any] | None = None
    epoch = first = 0  # the current epoch and its first iteration

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.resumed = checkpoint['meta'] if runner._resume else None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        loader, meta = runner.train_dataloader, checkpoint['meta']
        # All of them, but not yet followed by what belongs to the end of an epoch, is another state than none.
        done = meta['iter'] - self.first if meta['epoch'] == self.epoch else 0
        meta.update(epoch_batches=len(loader), epoch_batches_done=done)
        meta.update(processes_and_batch=[runner.world_size, loader.batch_size])

    def before_train_epoch(self, runner: Runner) -> None:
        loader, meta, self.resumed = runner.train_dataloader, self.resumed or {}, None
        self.epoch = runner.epoch
        self.first = start = runner.iter
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            if meta.get('epoch_batches') == len(loader):
                self.first -= meta['epoch_batches_done']
        elif not hasattr(loader.sampler, 'skip'):
            self.first = start = 0  # MMEngine will load all batches up to this iteration again
        if isinstance(loader.batch_sampler, SeededBatches):
            position = loader.batch_sampler.position
            position.epoch, position.start = self.first, start

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        set_seed(runner.seed, MODEL, runner.iter)
