"""How many labelled images does a detector need, from scratch and from a backbone that was trained on other ones?

    python benchmarks/how_many_images.py --json benchmarks/cpu/how_many_images.json

Trains the demo's detectors on the first 100, 300 and 1,000 scenes of Shapes, plain and in context, always for as many
steps, and evaluates each on the same 100 others. Their backbones start

* from scratch;
* pretrained: trained in a detector on scenes of the other kind, with other classes;
* linearized: the same with XCA, in whose place `xvit-det linearize` puts XNorm on the 1,000 scenes without labels.

All have XNorm attention as wide as the tokens, as XCA needs. What an earlier run left in the JSON file and in the work
folder is kept, so that an interrupted run goes on. `--images 1000 --kinds plain` trains a part of it.
"""

import argparse
import functools
import itertools
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from xvit_det.benchmark.record import Record, make_header
from xvit_det.cli.common import command
from xvit_det.cli.linearize import main as linearize
from xvit_det.cli.runner import build_runner
from xvit_det.config.load import load_config
from xvit_det.datasets.shapes import ContextSpec, ShapesSpec, ensure_shapes, image_folder

CONFIGS = {'plain': 'mask_rcnn_xvit_shapes', 'context': 'mask_rcnn_xvit_context'}
SPECS = {'plain': ShapesSpec, 'context': ContextSpec}
OTHER = {'plain': 'context', 'context': 'plain'}
STARTS = ('scratch', 'pretrained', 'linearized')
IMAGES = (100, 300, 1000)
SCENES = dict(num_train=1000, num_val=100)
BATCH = 4


def scenes(kind: str, data: Path) -> Path:
    """The folder with all scenes of a kind."""
    spec = SPECS[kind](**SCENES)
    return ensure_shapes(data / spec.folder_name, spec)


def make_config(kind: str, folder: Path, work_dir: Path, steps: int, **backbone: Any) -> Config:
    """The demo's config for a number of steps instead of epochs, evaluated at their end."""
    cfg = load_config(CONFIGS[kind], data_root=str(folder), work_dir=str(work_dir))
    cfg.model.backbone.arch.attn_dims = cfg.model.backbone.arch.embed_dims
    cfg.model.backbone.update(backbone)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=steps)
    cfg.train_dataloader.update(batch_size=BATCH, sampler=dict(type='InfiniteSampler', shuffle=True))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(SCENES)
    warmup = min(100, steps // 2)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=steps, eta_min=1e-5),
    ]
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=steps, save_optimizer=False)
    cfg.log_processor.by_epoch = False
    cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    return cfg


class KeepMetrics(Hook):
    """Keeps what the last evaluation found."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = dict(metrics or {})


def train(cfg: Config, images: int, seed: int) -> dict[str, float]:
    """Train on the first ``images`` scenes; box and mask mAP."""
    cfg.train_dataloader.dataset.indices = images
    cfg.randomness = dict(seed=seed)
    runner, keep = build_runner(cfg), KeepMetrics()
    runner.register_hook(keep)
    runner.train()
    # Without a single prediction, CocoMetric returns nothing at all.
    return {key: round(float(keep.metrics.get(f'coco/{key}', 0.0)), 4) for key in ('bbox_mAP', 'segm_mAP')}


def pretrain(kind: str, mixer: str, data: Path, work: Path, steps: int) -> Path:
    """The checkpoint of a detector trained on all scenes of a kind."""
    work_dir = work / f'{kind}_{mixer}'
    checkpoint = work_dir / f'iter_{steps}.pth'
    if not checkpoint.is_file():
        train(make_config(kind, scenes(kind, data), work_dir, steps, mixer=mixer), SCENES['num_train'], seed=0)
    return checkpoint


@functools.cache
def start_weights(start: str, kind: str, data: Path, work: Path, steps: int, align_steps: int) -> Path:
    """A file with the weights of a backbone that was trained on the other kind of scenes."""
    other = OTHER[kind]
    trained = pretrain(other, 'xnorm' if start == 'pretrained' else 'xca', data, work, steps)
    if start == 'linearized':
        config = work / f'{other}_xca.py'
        make_config(other, scenes(other, data), trained.parent, steps, mixer='xca').dump(config)
        folder = work / f'{other}_linearized'
        images = scenes(kind, data) / image_folder('train')
        options = ['--mixer', 'xnorm', '--images', str(images), '--steps', str(align_steps), '--work-dir', str(folder)]
        linearize([str(config), str(trained), *options, '--cfg-options', 'train_dataloader.batch_size=16'])
        trained = folder / 'linearized.pth'
    weights = torch.load(trained, weights_only=True)['state_dict']
    # The two detectors read other maps: what makes the maps starts from scratch.
    kept = {n: w for n, w in weights.items() if n.startswith('backbone.') and not n.startswith('backbone.pyramid.')}
    path = work / f'{start}_for_{kind}.pth'
    torch.save(kept, path)
    return path


def draw(path: Path, rows: list[dict]) -> None:
    """Save the box mAP by the number of images, one panel for each kind of scenes."""
    figure = Figure(figsize=(8, 3.6), layout='constrained', dpi=100)
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), CONFIGS, strict=True):
        for start in STARTS:
            points: dict[int, list[float]] = {}
            for row in rows:
                if (row['scenes'], row['start']) == (kind, start):
                    points.setdefault(row['images'], []).append(row['bbox_mAP'])
            axes.plot(
                sorted(points), [sum(points[n]) / len(points[n]) for n in sorted(points)], marker='o', label=start
            )
        axes.set(title=f'Shapes, {kind}', xlabel='labelled images', xscale='log')
        axes.set_xticks(IMAGES, map(str, IMAGES))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel('box mAP')
    figure.axes[0].legend(frameon=False)
    figure.savefig(path)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kinds', nargs='+', choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument('--starts', nargs='+', choices=STARTS, default=list(STARTS))
    parser.add_argument('--images', nargs='+', type=int, choices=IMAGES, default=list(IMAGES))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--steps', type=int, default=1000, help='training steps of 4 images (%(default)s)')
    parser.add_argument('--align-steps', type=int, default=300, help='steps of linearizing (%(default)s)')
    parser.add_argument('--data', type=Path, default=Path('data'), help='where scenes are drawn (%(default)s)')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/how_many_images'))
    parser.add_argument('--json', type=Path, help='where to record the results')
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    header = make_header('how_many_images', 'cpu', steps=args.steps, batch=BATCH, align_steps=args.align_steps)
    record = Record(header, args.json, resume=True)
    for seed, kind, images, start in itertools.product(args.seeds, args.kinds, args.images, args.starts):
        keys = dict(scenes=kind, images=images, start=start, seed=seed)
        if record.find(keys):
            continue
        init = None
        if start != 'scratch':
            path = start_weights(start, kind, args.data, args.work_dir, args.steps, args.align_steps)
            init = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
        work_dir = args.work_dir / f'{kind}_{images}_{start}_{seed}'
        cfg = make_config(kind, scenes(kind, args.data), work_dir, args.steps, init_cfg=init)
        record.add(keys, **train(cfg, images, seed))
        print(record.rows[-1], flush=True)
    if args.json:
        draw(args.json.with_suffix('.png'), record.rows)


if __name__ == '__main__':
    main()
