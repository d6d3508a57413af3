"""Kill a training run again and again, resume it, and compare its weights with those of an uninterrupted one.

Each life of the training ends by SIGKILL, at a random moment or as soon as it writes a checkpoint, which it does after
every iteration. The record goes to `benchmarks/cpu/kills.json`:

    python benchmarks/kills.py --kills 50 --in-writes 15 --json benchmarks/cpu/kills.json
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from xvit_det.benchmark.record import Record, make_header
from xvit_det.cli.train import main as train
from xvit_det.config.load import read_config

CONFIG = 'mask_rcnn_xvit_shapes'
SCENES = [
    f'{part}_dataloader.dataset.num_{split}={number}'
    for part in ('train', 'val', 'test')
    for split, number in (('train', 8), ('val', 2))
]
OPTIONS = [*SCENES, 'model.backbone.drop_path_rate=0.1', 'randomness.seed=0', 'train_cfg.val_interval=1000']
EVERY_ITERATION = ['by_epoch=False', 'interval=1', 'max_keep_ckpts=2']


def start(folder: Path, epochs: int, *options: str) -> BaseProcess:
    """Start the training, or go on with it, in a process of its own that has the imports behind it."""
    process = multiprocessing.get_context('fork').Process(target=_live, args=(folder, epochs, *options))
    process.start()
    return process


def _live(folder: Path, epochs: int, *options: str) -> None:
    log = os.open(folder.with_suffix('.log'), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    settings = [*OPTIONS, f'train_cfg.max_epochs={epochs}', *options]
    os.chdir(folder.parent)  # where the scenes are drawn
    train([CONFIG, '--work-dir', str(folder), '--resume', '--cfg-options', *settings])


def wait_until_it_trains(process: BaseProcess, folder: Path) -> None:
    log = folder.with_suffix('.log')
    while not log.exists() or 'Checkpoints will be saved' not in log.read_text():
        if not process.is_alive():
            raise SystemExit(f'lost: {log.read_text()[-1000:]}')
        time.sleep(0.02)


def kill(process: BaseProcess, folder: Path, in_write: bool, seconds: float) -> bool:
    """End one life; whether it was writing a checkpoint then."""
    wait_until_it_trains(process, folder)
    moment = time.monotonic() + seconds
    while time.monotonic() < moment or (in_write and not [*folder.glob('*.part')]):
        time.sleep(0.0005 if in_write else 0.01)
    process.kill()
    process.join()
    folder.with_suffix('.log').unlink()
    return bool([*folder.glob('*.part')])


def load(folder: Path) -> dict:
    return torch.load((folder / 'last_checkpoint').read_text(), map_location='cpu', weights_only=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--in-writes', type=int, default=15, help='how many of them come while a checkpoint is written')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='file for the record')
    args = parser.parse_args()
    draw = random.Random(args.seed)
    in_write = [True] * args.in_writes + [False] * (args.kills - args.in_writes)
    draw.shuffle(in_write)
    read_config(CONFIG)  # imports what it names
    torch.set_num_threads(1)
    keep = [f'default_hooks.checkpoint.{option}' for option in EVERY_ITERATION]
    with tempfile.TemporaryDirectory() as place:
        killed, straight = Path(place, 'killed'), Path(place, 'straight')
        writing = 0
        for number, during_write in enumerate(in_write, start=1):
            process = start(killed, 1000, *keep)
            writing += kill(process, killed, during_write, draw.uniform(0, 3))
            print(f'{number} kills, {writing} of them while a checkpoint was written', flush=True)
        epochs = load(killed)['meta']['epoch'] + 1
        for folder, options in ((killed, keep), (straight, [])):
            process = start(folder, epochs, *options)
            process.join()
            if process.exitcode:
                raise SystemExit(f'lost: {folder.with_suffix(".log").read_text()[-1000:]}')
        first, second = load(killed), load(straight)
    pairs = [(first['state_dict'][name], weight) for name, weight in second['state_dict'].items()]
    record = Record(make_header('kills', 'cpu', config=CONFIG, seed=args.seed), args.json)
    record.add(
        dict(kills=args.kills),
        while_writing=writing,
        trainings_lost=0,  # else this line is not reached
        iterations=(first['meta']['iter'], second['meta']['iter']),
        weights=len(pairs),
        weights_that_differ=sum(not torch.equal(*pair) for pair in pairs),
    )
    print(record.rows[0])


if __name__ == '__main__':
    main()
