"""Do the models learn in the order of the paper's Table 1? Train a few of them on a part of real CIFAR-10.

    python benchmarks/learn_cifar10.py --data-root path/to/folder/with/cifar-10-batches-py

trains each model from its shipped config, with the paper's recipe but for a learning rate that falls to 0, on the same
few training pictures and measures its top-1 accuracy on the same test pictures after every epoch. So few pictures and
epochs tell which model learns faster, not how good it becomes: the paper trains on all 50,000 for tens of epochs. (At
the paper's constant rate, the accuracy of one epoch and the next differ by several points.) Models of an earlier run
with the same settings stay in the JSON file.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from xvit_det.benchmark.screen import show_table  # noqa: E402
from xvit_det.config.data_check import check_data  # noqa: E402
from xvit_det.config.data_paths import set_data_root  # noqa: E402
from xvit_det.config.load import set_loader_defaults  # noqa: E402
from xvit_det.hub import find_config  # noqa: E402

VARIANTS = {'hybrid_vip_eps': ('hybrid_vip', dict(type='performer', eps=1e-9))}  # name: config, mixer
MODELS = ('vit', 'hybrid_vip', *VARIANTS, 'hybrid_vin')


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
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/learn_cifar10'))
    parser.add_argument('--json', type=Path, help='where to record the result, and its curves as a picture beside it')
    return parser.parse_args()


def build_config(name: str, args: argparse.Namespace) -> Config:
    config, mixer = VARIANTS.get(name, (name, None))
    cfg = Config.fromfile(find_config(f'{config}_cifar10'))
    if mixer:
        cfg.model.backbone.mixer = mixer
    set_data_root(cfg, args.data_root)
    if args.scale_lr:
        # Adam's steps do not grow with the gradient: its rate goes with the root of the batch (arXiv 2205.10287)
        cfg.optim_wrapper.optimizer.lr *= math.sqrt(args.batch_size / cfg.train_dataloader.batch_size)
    cfg.train_dataloader.update(batch_size=args.batch_size, num_workers=0)
    cfg.val_dataloader.update(batch_size=args.batch_size, num_workers=0)
    cfg.train_dataloader.dataset.indices = args.train_images
    cfg.val_dataloader.dataset.indices = args.test_images
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg.pop(key)
    cfg.train_cfg.max_epochs = args.epochs
    iterations = args.epochs * -(-args.train_images // args.batch_size)
    warmup = max(1, iterations // 20)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
        dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=warmup, end=iterations),
    ]
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1)
    if not args.fp32:
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
        cfg.val_cfg.fp16 = True  # any 16-bit type: on the CPU, bfloat16
    cfg.randomness = dict(seed=args.seed)
    cfg.work_dir = str(args.work_dir / name)
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
        self.epochs.append(
            dict(
                top1=round(float(metrics['accuracy/top1']), 2),
                loss=round(sum(self.losses) / len(self.losses), 4),
                cpu_seconds=round(time.process_time() - self.start),
            )
        )
        self.losses.clear()


def train(name: str, args: argparse.Namespace) -> list[dict]:
    cfg = build_config(name, args)
    check_data(cfg, ('train', 'val'))
    runner = Runner.from_cfg(cfg)
    history = History()
    runner.register_hook(history)
    runner.train()
    return history.epochs


def draw(path: Path, result: dict) -> None:
    figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
    for name, epochs in result['models'].items():
        axes.plot(range(1, len(epochs) + 1), [e['top1'] for e in epochs], marker='o', label=name)
    axes.set(
        xlabel='epoch',
        ylabel='top-1 accuracy in percent',
        title=f'{result["train_images"]} training and {result["test_images"]} test pictures of CIFAR-10',
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    args = parse_args()
    result = dict(
        train_images=args.train_images,
        test_images=args.test_images,
        epochs=args.epochs,
        batch_size=args.batch_size,
        scale_lr=args.scale_lr,
        bf16=not args.fp32,
        seed=args.seed,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        models={},
    )
    for name in args.models:
        epochs = train(name, args)
        if args.json and args.json.exists():  # read anew: another process may have written it meanwhile
            earlier = json.loads(args.json.read_text())
            if {**earlier, 'models': {}} == {**result, 'models': {}}:
                result['models'] = earlier['models'] | result['models']
        result['models'][name] = epochs
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(result, indent=1) + '\n')
            draw(args.json.with_suffix('.png'), result)
    columns = ('model', *(str(i + 1) for i in range(args.epochs)), 'CPU seconds')
    rows = [
        (name, *(f'{e["top1"]:.1f}' for e in epochs), epochs[-1]['cpu_seconds'])
        for name, epochs in result['models'].items()
    ]
    show_table('Top-1 accuracy in percent after each epoch', columns, rows)


if __name__ == '__main__':
    main()
