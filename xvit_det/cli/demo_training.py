"""What ``xvit-det demo`` does in each of its processes: draw scenes, train, evaluate, draw what the model predicts."""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO, TextIOBase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xvit_det.cli.common import command_line
from xvit_det.cli.demo_forecast import Forecast
from xvit_det.cli.demo_tasks import TASKS, Task
from xvit_det.config.data_paths import set_data_root
from xvit_det.config.launch import join_cpu_group, told_losses
from xvit_det.engine.divergence import StopAtDivergence
from xvit_det.hub import find_config
from xvit_det.visualization.curves import draw_curve

CHECKPOINT = 'checkpoint.pth'
DRAWN_SCENES = 8


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
    task = TASKS[args.task]
    cfg = _config(args, task, console)
    with _progress(console) as progress:
        watch = _Watch(task, progress)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(watch, priority='VERY_LOW')
        forecast = Forecast(partial(console.print, soft_wrap=True), task.slowdown, _shorter(args))
        runner.register_hook(forecast, priority='VERY_LOW')
        runner.register_hook(StopAtDivergence())
        parameters = sum(p.numel() for p in runner.model.parameters())
        console.print(
            f'Training {task.model} with a small X-ViT ({parameters / 1e6:.1f} M parameters) on {get_device()} '
            f'in {args.precision}, {runner.max_epochs} epochs of {len(runner.train_dataloader)} iterations.',
            soft_wrap=True,
        )
        console.print(f'What OpenMMLab prints goes into {log_file(args)}', soft_wrap=True)
        with told_losses():
            runner.train()
    if not is_main_process():
        return
    _write_results(runner, watch, task, args)
    console.print(
        f'\n[bold]{watch.latest(", ")}[/] on {len(runner.val_dataloader.dataset)} other scenes '
        f'after {_clock(watch.seconds)} of training'
    )
    _print_classes(watch.figures, console)
    for name, what in (
        ('predictions.png', 'annotations and predictions side by side'),
        ('curve.png', f'loss and {task.measure} while training'),
        ('metrics.json', 'all figures'),
        (CHECKPOINT, 'the trained weights'),
    ):
        console.print(f'  {args.work_dir / name}  {what}', soft_wrap=True)
    images = Path(runner.val_dataloader.dataset.get_data_info(0)['img_path']).parent
    words = ('predict', images, '--checkpoint', args.work_dir / CHECKPOINT)
    console.print(f'Try it on its images:\n  {command_line(*words)}', soft_wrap=True)


def _shorter(args: Namespace) -> Callable[[int], str] | None:
    """The user's command with a number of epochs; none for those who have chosen one."""
    if args.epochs:
        return None
    return lambda epochs: command_line('demo', *args.given, '--epochs', str(epochs))


def _print_classes(figures: dict[str, float], console: Console) -> None:
    """Print the figures that have a class in their names, such as ``IoU/circle``."""
    for name, value in figures.items():
        measure, _, of = name.partition('/')
        if of:
            console.print(f'  {of:12} {measure} {value:.3f}')


def _config(args: Namespace, task: Task, console: Console) -> Config:
    """The demo's config with the options applied, its scenes drawn."""
    cfg = Config.fromfile(find_config(task.config))
    if args.processes > 1:
        join_cpu_group(cfg)
        cfg.train_dataloader.batch_size //= args.processes
    scenes = dict(num_train=cfg.train_dataloader.dataset.get('num_train', task.spec.num_train), seed=args.seed)
    if args.images:
        scenes |= dict(num_train=args.images, num_val=max(4, args.images // 8))
    spec = task.spec(**scenes)
    folder = args.data_dir or Path('data', f'shapes_{spec.folder_name}')
    if not folder.exists():
        console.print(f'Drawing {spec.num_train} + {spec.num_val} scenes into {folder}')
    if is_main_process():
        task.ensure(folder, spec)
    barrier()  # from here on the scenes exist for all processes
    set_data_root(cfg, str(folder))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(scenes)
    if args.epochs:
        cfg.merge_from_dict({'train_cfg.max_epochs': args.epochs, 'param_scheduler.1.end': args.epochs})
        cfg.param_scheduler[1].T_max = args.epochs
    if args.precision == 'bfloat16':
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

    def __init__(self, task: Task, progress: Progress) -> None:
        self.task = task
        self.progress = progress
        self.losses: list[tuple[int, float]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.figures: dict[str, float] = {}
        self.seconds = 0.0

    def latest(self, separator: str) -> str:
        """The scores of the latest evaluation in words."""
        return separator.join(f'{name} {self.figures[key]:.3f}' for key, name in self.task.scores.items())

    def before_train(self, runner: Runner) -> None:
        self.start = time.monotonic()
        self.bar = self.progress.add_task('', total=runner.max_iters, loss='')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict[str, Any]) -> None:
        self.losses.append((runner.iter + 1, float(outputs['loss'])))
        self.progress.update(self.bar, advance=1, loss=f'{self.losses[-1][1]:.2f}')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        self.figures = self.task.figures(metrics)
        self.evaluations.append(dict(iteration=runner.iter) | {key: self.figures[key] for key in self.task.scores})
        loss = np.mean([loss for _, loss in self.losses[-len(runner.train_dataloader) :]])
        self.progress.console.print(
            f'{_clock(time.monotonic() - self.start):>6}  epoch {runner.epoch}/{runner.max_epochs}  '
            f'loss {loss:.3f}  {self.latest("  ")}'
        )

    def after_train(self, runner: Runner) -> None:
        self.seconds = time.monotonic() - self.start


def _clock(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def _write_results(runner: Runner, watch: _Watch, task: Task, args: Namespace) -> None:
    minutes = _clock(watch.seconds)
    title = f'{task.model}, small X-ViT, Shapes: {runner.max_epochs} epochs in {minutes} min'
    scores = {name: [(e['iteration'], e[key]) for e in watch.evaluations] for key, name in task.scores.items()}
    draw_curve(args.work_dir / 'curve.png', watch.losses, scores, title, task.measure)
    task.draw(args.work_dir / 'predictions.png', runner.val_dataloader.dataset, _predict_first(runner))
    figures = dict(
        metrics=watch.figures,
        train_seconds=round(watch.seconds, 1),
        iterations=runner.iter,
        epochs=runner.max_epochs,
        seed=args.seed,
        device=get_device(),
        precision=args.precision,
        evaluations=watch.evaluations,
    )
    (args.work_dir / 'metrics.json').write_text(json.dumps(figures, indent=2) + '\n')


def _predict_first(runner: Runner) -> list:
    """Predict the first validation scenes."""
    dataset = runner.val_dataloader.dataset
    samples = [dataset[i] for i in range(min(DRAWN_SCENES, len(dataset)))]
    runner.model.eval()
    with torch.no_grad():
        return runner.model.test_step(pseudo_collate(samples))
