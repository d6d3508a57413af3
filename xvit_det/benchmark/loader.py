"""``loader``: images per second that a config's training data pipeline makes, beside what its model takes in."""

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

from torch import nn

from xvit_det.benchmark.record import open_record
from xvit_det.benchmark.screen import Bar, show_table
from xvit_det.benchmark.timing import interleave
from xvit_det.benchmark.training import build_loader, build_training, config_scope, endless
from xvit_det.config.data_check import check_data
from xvit_det.config.load import load_config

KEYS = ('config', 'workers')
WARMUP = 1


def run(args: argparse.Namespace) -> None:
    """The command."""
    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options)
    check_data(cfg, ('train',))
    record = open_record(args)
    with config_scope(cfg), Bar(len(args.workers) * args.batches + args.repeats + WARMUP) as bar:
        bar.describe('training steps')
        model, optimizer = build_training(cfg, args.device)
        batch = next(iter(build_loader(cfg, 'train', workers=0)))
        model_speed = _training_speed(model.train(), optimizer, batch, args.repeats, bar)
        for workers in args.workers:
            bar.describe(f'{workers} workers')
            if record.find(dict(config=args.config, workers=workers)):
                continue
            speed = loading_speed(endless(build_loader(cfg, 'train', workers)), args.batches, bar)
            row = dict(
                config=args.config,
                workers=workers,
                batch=images_in(batch),
                images_per_s=round(speed, 2),
                model_images_per_s=round(model_speed, 2),
                feeds=round(speed / model_speed, 3),
            )
            record.add([row], KEYS)
    columns = ('config', 'workers', 'batch', 'images/s', "model's images/s", 'feeds')
    show_table('The data pipeline beside the training step', columns, [list(row.values()) for row in record.rows])
    print(verdict([row for row in record.rows if row['config'] == args.config]))


def images_in(batch: dict) -> int:
    return len(batch['inputs'])


def _training_speed(model: nn.Module, optimizer: Any, batch: dict, repeats: int, bar: Bar) -> float:
    """Images per second of training steps on a batch that is there already."""
    (seconds,) = interleave([lambda: model.train_step(batch, optimizer)], repeats, warmup=WARMUP, tick=bar.tick)
    return images_in(batch) / statistics.median(seconds)


def loading_speed(batches: Iterator[dict], count: int, bar: Bar) -> float:
    """Images per second while ``count`` batches are taken as fast as they come, the first, which starts the workers,
    aside."""
    next(batches)
    start = time.perf_counter()
    images = 0
    for _ in range(count):
        images += images_in(next(batches))
        bar.tick()
    return images / (time.perf_counter() - start)


def verdict(rows: list[dict]) -> str:
    """One sentence: from how many workers on the pipeline is fast enough."""
    enough = [row['workers'] for row in rows if row['feeds'] >= 1]
    if enough:
        return f'The pipeline keeps up with the model from {min(enough)} workers on.'
    best = max(rows, key=lambda row: row['feeds'])
    return f'The model waits for data: {best["workers"]} workers give {best["feeds"]:.0%} of what it could take in.'
