"""``loader``: images per second from a config's training data pipeline, beside those that its model can train on."""

import statistics
import time
from collections.abc import Iterator, Sequence

from mmengine.config import Config
from mmengine.registry import DefaultScope

from xvit_det.benchmark.record import Record
from xvit_det.benchmark.screen import progress
from xvit_det.benchmark.timing import interleave
from xvit_det.benchmark.training import build_loader, build_training, endless


def measure_loader(
    cfg: Config, name: str, record: Record, *, device: str, workers: Sequence[int], batches: int, repeats: int
) -> None:
    """Add a row for each number of workers that the record lacks.

    Args:
        cfg: A loaded config.
        name: Its name in the record.
        record: Saved after every row.
        device: Where the model trains, ``'cpu'`` or ``'cuda'``.
        workers: Numbers of loading processes.
        batches: Batches to load for each.
        repeats: Timed training steps.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model, optimizer = build_training(cfg, device)
        model.train()
        batch = next(iter(build_loader(cfg, 'train', workers=0)))
        steps = {'step': lambda: model.train_step(batch, optimizer)}
        seconds = statistics.median(interleave(steps, repeats, label='training steps')['step'])
        model_speed = len(batch['inputs']) / seconds
        for number in workers:
            keys = dict(config=name, workers=number)
            if record.find(keys):
                continue
            speed = loading_speed(endless(build_loader(cfg, 'train', number)), batches, f'{number} workers')
            record.add(
                keys,
                batch=len(batch['inputs']),
                images_per_s=round(speed, 2),
                model_images_per_s=round(model_speed, 2),
                feeds=round(speed / model_speed, 3),
            )


def loading_speed(batches: Iterator[dict], count: int, label: str) -> float:
    """Images per second over ``count`` batches, after a first one that starts the workers."""
    next(batches)
    start = time.perf_counter()
    images = sum(len(next(batches)['inputs']) for _ in progress(range(count), label))
    return images / (time.perf_counter() - start)


def verdict(rows: list[dict]) -> str:
    """One sentence: how many workers make the pipeline fast enough."""
    enough = [row['workers'] for row in rows if row['feeds'] >= 1]
    if enough:
        return f'The pipeline keeps up with the model from {min(enough)} workers on.'
    best = max(rows, key=lambda row: row['feeds'])
    return f'The model waits for data: {best["workers"]} workers deliver {best["feeds"]:.0%} of what it can train on.'
