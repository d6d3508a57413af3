"""What ``xvit-det demo`` does in each of its processes: draw scenes, train, evaluate, draw what the model predicts."""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO, TextIOBase
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from pycocotools.coco import COCO
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xvit_det.config.data_paths import set_data_root
from xvit_det.config.launch import join_cpu_group
from xvit_det.datasets.shapes import ShapesSpec, ensure_shapes
from xvit_det.engine.amp import cpu_computes_bfloat16
from xvit_det.hub import find_config
from xvit_det.visualization.curves import draw_curve
from xvit_det.visualization.predictions import Instances, draw_predictions

CONFIG = 'mask_rcnn_xvit_shapes'
CHECKPOINT = 'checkpoint.pth'
DRAWN_SCENES = 8
MIN_SCORE = 0.5


def log_file(args: Namespace) -> Path:
    return args.work_dir / 'output.log'


def demo(args: Namespace) -> None:
    """All that one process does; the first one speaks."""
    speaks = os.environ.get('LOCAL_RANK', '0') == '0'
    # Today's stdout, whatever it is redirected to later.
    console = Console(file=sys.stdout if speaks else StringIO(), highlight=False)
    try:
        with _output_into(log_file(args)):
            _run(args, console)
    except KeyboardInterrupt:
        console.print(f'Stopped. What was done so far is in {args.work_dir}.')
        raise SystemExit(130) from None


def _run(args: Namespace, console: Console) -> None:
    cfg = _config(args, console)
    with _progress(console) as progress:
        watch = _Watch(progress)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(watch, priority='VERY_LOW')
        parameters = sum(p.numel() for p in runner.model.parameters())
        console.print(
            f'Training Mask R-CNN with a small X-ViT ({parameters / 1e6:.1f} M parameters) on {get_device()}, '
            f'{runner.max_epochs} epochs of {len(runner.train_dataloader)} iterations.',
            soft_wrap=True,
        )
        console.print(f'What OpenMMLab prints goes into {log_file(args)}', soft_wrap=True)
        runner.train()
    if not is_main_process():
        return
    seconds, (_, box, mask) = watch.seconds, watch.scores[-1]
    _write_results(runner, watch, args)
    console.print(
        f'\n[bold]box mAP {box:.3f}, mask mAP {mask:.3f}[/] on {len(runner.val_dataloader.dataset)} other scenes '
        f'after {_clock(seconds)} of training'
    )
    for name, what in (
        ('predictions.png', 'annotations and predictions side by side'),
        ('curve.png', 'loss and mAP while training'),
        ('metrics.json', 'all COCO figures'),
        (CHECKPOINT, 'the trained weights'),
    ):
        console.print(f'  {args.work_dir / name}  {what}', soft_wrap=True)


def _config(args: Namespace, console: Console) -> Config:
    """The demo's config with the options applied, its scenes drawn."""
    cfg = Config.fromfile(find_config(CONFIG))
    if args.processes > 1:
        join_cpu_group(cfg)
        cfg.train_dataloader.batch_size //= args.processes
    scenes = dict(seed=args.seed)
    if args.images:
        scenes |= dict(num_train=args.images, num_val=max(4, args.images // 8))
    spec = ShapesSpec(**scenes)
    folder = args.data_dir or Path('data', f'shapes_{spec.folder_name}')
    if not folder.exists():
        console.print(f'Drawing {spec.num_train} + {spec.num_val} scenes into {folder}')
    if is_main_process():
        ensure_shapes(folder, spec)
    barrier()  # from here on the scenes exist for all processes
    set_data_root(cfg, str(folder))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(scenes)
    if args.epochs:
        cfg.merge_from_dict({'train_cfg.max_epochs': args.epochs, 'param_scheduler.1.end': args.epochs})
        cfg.param_scheduler[1].T_max = args.epochs
    if not torch.cuda.is_available() and cpu_computes_bfloat16():
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    cfg.default_hooks.checkpoint.filename_tmpl = CHECKPOINT
    cfg.work_dir = str(args.work_dir)
    cfg.randomness = dict(seed=args.seed)
    return cfg


@contextmanager
def _output_into(log: Path) -> Iterator[None]:
    """Send what OpenMMLab and pycocotools print, and Python's warnings, into a file."""
    stream = _Appender(log)
    with redirect_stdout(stream), redirect_stderr(stream):
        yield


class _Appender(TextIOBase):
    """A text stream that opens its file for each write: mmengine's logger keeps the stream it was created with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> int:
        with self.path.open('a') as file:
            return file.write(text)


def _progress(console: Console) -> Progress:
    """A live line; it writes to the real terminal and leaves the redirection of `_output_into` alone."""
    return Progress(
        TextColumn('training'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('loss {task.fields[loss]}'),
        TextColumn('left'),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class _Watch(Hook):
    """Follows the training: moves the progress line, prints one line per evaluation, keeps losses and scores."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.losses: list[tuple[int, float]] = []
        self.scores: list[tuple[int, float, float]] = []
        self.metrics: dict[str, float] = {}
        self.seconds = 0.0

    def before_train(self, runner: Runner) -> None:
        self.start = time.monotonic()
        self.task = self.progress.add_task('', total=runner.max_iters, loss='')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict[str, Any]) -> None:
        self.losses.append((runner.iter + 1, float(outputs['loss'])))
        self.progress.update(self.task, advance=1, loss=f'{self.losses[-1][1]:.2f}')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        # Without a single prediction, as early in training, CocoMetric returns nothing at all.
        self.metrics = {'bbox_mAP': 0.0, 'segm_mAP': 0.0}
        self.metrics |= {name.removeprefix('coco/'): float(value) for name, value in metrics.items()}
        box, mask = self.metrics['bbox_mAP'], self.metrics['segm_mAP']
        self.scores.append((runner.iter, box, mask))
        loss = np.mean([loss for _, loss in self.losses[-len(runner.train_dataloader) :]])
        self.progress.console.print(
            f'{_clock(time.monotonic() - self.start):>6}  epoch {runner.epoch}/{runner.max_epochs}  '
            f'loss {loss:.3f}  box mAP {box:.3f}  mask mAP {mask:.3f}'
        )

    def after_train(self, runner: Runner) -> None:
        self.seconds = time.monotonic() - self.start


def _clock(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def _write_results(runner: Runner, watch: _Watch, args: Namespace) -> None:
    minutes = _clock(watch.seconds)
    title = f'Mask R-CNN, small X-ViT, Shapes: {runner.max_epochs} epochs in {minutes} min'
    draw_curve(args.work_dir / 'curve.png', watch.losses, watch.scores, title)
    _draw_scenes(runner, args.work_dir / 'predictions.png')
    figures = dict(
        metrics=watch.metrics,
        train_seconds=round(watch.seconds, 1),
        iterations=runner.iter,
        epochs=runner.max_epochs,
        seed=args.seed,
        device=get_device(),
        evaluations=[dict(iteration=i, bbox_mAP=box, segm_mAP=mask) for i, box, mask in watch.scores],
    )
    (args.work_dir / 'metrics.json').write_text(json.dumps(figures, indent=2) + '\n')


def _draw_scenes(runner: Runner, path: Path) -> None:
    """Predict the first validation scenes and draw them beside their annotations."""
    dataset = runner.val_dataloader.dataset
    samples = [dataset[i] for i in range(min(DRAWN_SCENES, len(dataset)))]
    runner.model.eval()
    with torch.no_grad():
        results = runner.model.test_step(pseudo_collate(samples))
    coco = COCO(dataset.ann_file)
    images, truths, predictions = [], [], []
    for result in results:
        images.append(mmcv.imread(result.img_path, channel_order='rgb'))
        annotations = coco.imgToAnns[result.img_id]
        corners = np.array([a['bbox'] for a in annotations], float).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        truths.append(
            Instances(
                boxes=corners,
                masks=np.array([coco.annToMask(a) for a in annotations], bool),
                labels=np.array([dataset.cat2label[a['category_id']] for a in annotations]),
                crowds=np.array([a['iscrowd'] for a in annotations], bool),
            )
        )
        sure = result.pred_instances[result.pred_instances.scores > MIN_SCORE].numpy()
        predictions.append(Instances(sure.bboxes, sure.masks, sure.labels, sure.scores))
    meta = dataset.metainfo
    draw_predictions(path, images, truths, predictions, meta['classes'], meta['palette'])
