"""Train a few models on a part of CIFAR-10: do they learn in the order of the paper's Table 1?

    python benchmarks/learn_cifar10.py --data-root path/to/folder/with/cifar-10-batches-py

trains each model from its shipped config, with the paper's recipe but a learning rate that falls to 0, on the same few
training images, and measures top-1 accuracy on the same test images after every epoch. So few images and epochs tell
which model learns faster, not how good it becomes: the paper trains on all 50,000 for tens of epochs. (At the paper's
constant rate, the accuracy differs by several points from one epoch to the next.) Models that an earlier run with the
same settings left in the JSON file are kept.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.config.data_check import check_data
from xvit_det.config.load import load_config, set_loader_defaults

VARIANTS = {'hybrid_vip_eps': ('hybrid_vip', dict(type='performer', eps=1e-9))}  # name: config, mixer
MODELS = ('vit', 'hybrid_vip', *VARIANTS, 'hybrid_vin')
SEED = 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', required=True, help='folder that holds cifar-10-batches-py')
    parser.add_argument('--models', nargs='+', default=MODELS, help='names of configs without _cifar10')
    parser.add_argument('--train-images', type=int, default=2000)
    parser.add_argument('--test-images', type=int, default=500)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--scale-lr', action='store_true', help="scale the config's rate with the root of the batch")
    parser.add_argument('--fp32', action='store_true', help='train in float32; bfloat16 is twice as fast on some CPUs')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/learn_cifar10'))
    parser.add_argument('--json', type=Path, help='where to record the result, and its curves in a plot beside it')
    return parser.parse_args()


def build_config(name: str, args: argparse.Namespace) -> Config:
    config, mixer = VARIANTS.get(name, (name, None))
    cfg = load_config(f'{config}_cifar10', data_root=args.data_root, work_dir=str(args.work_dir / name))
    if mixer:
        cfg.model.backbone.mixer = mixer
    if args.scale_lr:
        # Adam's steps do not grow with the gradient: its rate goes with the root of the batch (arXiv 2205.10287)
        cfg.optim_wrapper.optimizer.lr *= math.sqrt(args.batch_size / cfg.train_dataloader.batch_size)
    for loader, images in ((cfg.train_dataloader, args.train_images), (cfg.val_dataloader, args.test_images)):
        loader.update(batch_size=args.batch_size, num_workers=0)
        loader.dataset.indices = images
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg.pop(key)
    cfg.train_cfg.max_epochs = args.epochs
    iterations = args.epochs * math.ceil(args.train_images / args.batch_size)
    warmup = max(1, iterations // 20)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
        dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=warmup, end=iterations),
    ]
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1)
    if not args.fp32:
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
        cfg.val_cfg.fp16 = True  # any 16-bit type: on the CPU, bfloat16
    cfg.randomness = dict(seed=SEED)
    set_loader_defaults(cfg)
    return cfg


class History(Hook):
    """Keeps the accuracy and the loss of every epoch, and the processor's time so far."""

    def __init__(self) -> None:
        self.start = time.process_time()
        self.losses: list[float] = []
        self.epochs: list[dict] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        self.losses.append(outputs['loss'].item())

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        top1, loss = float(metrics['accuracy/top1']), sum(self.losses) / len(self.losses)
        seconds = round(time.process_time() - self.start)
        self.epochs.append(dict(top1=round(top1, 2), loss=round(loss, 4), cpu_seconds=seconds))
        self.losses.clear()


def train(name: str, args: argparse.Namespace) -> list[dict]:
    cfg = build_config(name, args)
    check_data(cfg, ('train', 'val'))
    runner = Runner.from_cfg(cfg)
    history = History()
    runner.register_hook(history)
    runner.train()
    return history.epochs


def draw(record: Record, path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout='constrained', dpi=110)
    axes = figure.subplots()
    for name in dict.fromkeys(row['model'] for row in record.rows):
        points = [(row['epoch'], row['top1']) for row in record.rows if row['model'] == name]
        axes.plot(*zip(*points, strict=True), marker='o', label=name)
    title = '{train_images} training and {test_images} test images of CIFAR-10'.format(**record.header)
    axes.set(xlabel='epoch', ylabel='top-1 accuracy in percent', title=title)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)


@command
def main() -> None:
    args = parse_args()
    settings = ('train_images', 'test_images', 'epochs', 'batch_size', 'scale_lr')
    header = make_header('learn_cifar10', 'cuda' if torch.cuda.is_available() else 'cpu')
    header |= {key: getattr(args, key) for key in settings} | dict(bf16=not args.fp32, seed=SEED)
    record = Record(header, args.json, resume=True)  # before the first training, which takes long
    for name in args.models:
        epochs = train(name, args)
        if args.json:  # another process may have added its models meanwhile
            record = Record(header, args.json, resume=True)
        for epoch, results in enumerate(epochs, 1):
            record.add(dict(model=name, epoch=epoch), **results)
        if args.json:
            draw(record, args.json.with_suffix('.png'))
    show_table('After the last epoch', [row for row in record.rows if row['epoch'] == args.epochs])


if __name__ == '__main__':
    main()
