"""Train for an hour and follow memory, open files, threads and processes.

Mask R-CNN trains on Shapes, and is evaluated and saved after every epoch. `--leak` is the control: a hook keeps an
image and an open file of every iteration, which the record must show.

    python benchmarks/hours.py --minutes 60 --json benchmarks/cpu/hours.json
    MALLOC_MMAP_THRESHOLD_=131072 python benchmarks/hours.py --minutes 60 --json benchmarks/cpu/hours.json
    python benchmarks/hours.py --minutes 5 --leak

The variable of the second run makes glibc give the memory of large tensors back to the system, instead of keeping it in
a heap that falls to pieces.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from xvit_det.benchmark.record import Record, make_header
from xvit_det.cli.train import main as train
from xvit_det.config.load import read_config
from xvit_det.hub import find_config

CONFIG = 'mask_rcnn_xvit_shapes'
PAGE_MIB = os.sysconf('SC_PAGE_SIZE') / 2**20
EVERY = 2.0  # seconds between two looks at the processes


@HOOKS.register_module(force=True)  # this file may run twice in a process
class Leak(Hook):
    """Keeps an image of the batch and an open file after each iteration."""

    def __init__(self) -> None:
        self.kept = []

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict, outputs: dict) -> None:
        self.kept.append((data_batch['inputs'][0].clone(), open(os.devnull)))  # noqa: SIM115


def start(folder: Path, images: int, leak: bool) -> BaseProcess:
    """Start the training in a process of its own that has the imports behind it."""
    scenes = [
        f'{part}_dataloader.dataset.num_{split}={number}'
        for part in ('train', 'val', 'test')
        for split, number in (('train', images), ('val', max(4, images // 8)))
    ]
    options = [*scenes, 'train_cfg.max_epochs=100000', 'default_hooks.checkpoint.max_keep_ckpts=2', 'randomness.seed=0']
    config = folder.with_name('shapes.py')
    hooks = [dict(type='Leak')] if leak else []
    config.write_text(f'_base_ = {str(find_config(CONFIG))!r}\ncustom_hooks = {hooks}\n')
    process = multiprocessing.get_context('fork').Process(target=_live, args=(config, folder, options))
    process.start()
    return process


def _live(config: Path, folder: Path, options: list[str]) -> None:
    log = os.open(folder.with_suffix('.log'), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    os.chdir(folder.parent)  # where the scenes are drawn
    train([str(config), '--work-dir', str(folder), '--cfg-options', *options])


def family(pid: int) -> list[int]:
    """A process and all that stem from it."""
    children = [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
    return [pid, *(descendant for child in children for descendant in family(child))]


def look(pid: int) -> dict[str, float]:
    """What the processes hold now; the training's own memory apart from that of its data workers, who start anew."""
    pids = family(pid)
    resident = int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * PAGE_MIB
    return dict(
        mib=resident,
        files=sum(len(os.listdir(f'/proc/{each}/fd')) for each in pids),
        threads=sum(len(os.listdir(f'/proc/{each}/task')) for each in pids),
        processes=len(pids),
    )


def follow(process: BaseProcess, minutes: float) -> list[list[dict[str, float]]]:
    """Look at a process until the time is over; what was seen, by minute."""
    seen: list[list[dict[str, float]]] = []
    begun = time.monotonic()
    while (passed := (time.monotonic() - begun) / 60) < minutes:
        if not process.is_alive():
            raise SystemExit('the training ended by itself')
        if int(passed) == len(seen):
            seen.append([])
        try:
            seen[-1].append(look(process.pid))
        except (FileNotFoundError, ProcessLookupError):  # a data worker ended meanwhile
            continue
        finally:
            time.sleep(EVERY)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=60)
    parser.add_argument('--images', type=int, default=100, help='of an epoch, after which it is evaluated and saved')
    parser.add_argument('--leak', action='store_true', help='the control')
    parser.add_argument('--json', type=Path, help='file for the record')
    args = parser.parse_args()
    read_config(CONFIG)  # imports what it names
    torch.set_num_threads(1)
    header = make_header('hours', 'cpu', config=CONFIG, images=args.images)
    record = Record(header, args.json, resume=True)
    run = dict(leak=args.leak, mmap_threshold=os.environ.get('MALLOC_MMAP_THRESHOLD_'))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, 'run')
        process = start(folder, args.images, args.leak)
        try:
            seen = follow(process, args.minutes)
        except SystemExit as error:
            raise SystemExit(f'{error}: {folder.with_suffix(".log").read_text()[-1000:]}') from None
        process.terminate()
        process.join()
        saved = torch.load((folder / 'last_checkpoint').read_text(), map_location='cpu', weights_only=False)['meta']
    for minute, looks in enumerate(seen, start=1):
        figures = {key: round(median(each[key] for each in looks), 1) for key in looks[0]}
        record.add(run | dict(minute=minute), **figures, most_mib=round(max(each['mib'] for each in looks), 1))
        if minute % 5 == 1 or minute == len(seen):
            print(record.rows[-1])
    record.add(run | dict(status=process.exitcode), iterations=saved['iter'], epochs=saved['epoch'])
    print(record.rows[-1])


if __name__ == '__main__':
    main()
