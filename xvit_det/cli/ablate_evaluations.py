"""What ``xvit-det ablate`` measures: a model's scores, those with branches replaced, and each branch's share."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from numbers import Real
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xvit_det.analysis.branches import Branch, find_branches, record_branches, replace_branches
from xvit_det.cli.runner import build_tester
from xvit_det.errors import InputError
from xvit_det.mixers import TokenMixer

# Metric, with or without its prefix: printed name, and factor to percent. For models with none of them the first of
# their metrics is printed as it is.
SCORES = {
    'bbox_mAP': ('box AP', 100),
    'segm_mAP': ('mask AP', 100),
    'bbox_AP': ('box AP', 100),  # LVIS
    'segm_AP': ('mask AP', 100),
    'pascal_voc/mAP': ('mAP', 100),
    'PQ': ('PQ', 1),
    'top1': ('top-1', 1),
    'mIoU': ('mIoU', 1),
}


def ablate(cfg: Config, checkpoint: str, by: str, images: int | None) -> dict[str, Any]:
    """Evaluate a checkpoint as it is, with each branch replaced, and with each kind of branch replaced in all blocks.

    Args:
        cfg: A config from :func:`xvit_det.config.load.load_config`.
        checkpoint: File or http(s) address.
        by: ``'mean'``: replaced by the mean of the branch over the same images; ``'zero'``.
        images: How many of the test images to use, evenly spaced; ``None``: all.

    Returns:
        ``scores`` by printed name and all ``metrics`` of the model as it is; under ``branches``, by block and kind, and
        under ``kinds`` the same with these replaced; ``share`` and ``varying_share`` of each branch.

    Raises:
        InputError: The checkpoint does not fit the model, or the model has no backbone of this package or no score.
    """
    runner = build_tester(cfg, checkpoint)
    branches = find_branches(runner.model)
    if images:
        _use_images(runner, images)
    kinds = dict.fromkeys(_kind(name) for name in branches)
    groups = {name: [name] for name in branches}
    groups |= {f'every {kind}': [name for name in branches if _kind(name) == kind] for kind in kinds}
    replaced = {}
    with _progress(runner, 1 + len(groups)) as report, _file_only(runner.logger):
        with record_branches(runner.model) as statistics:
            metrics = _numbers(runner.test())
        scores = _scores(metrics)
        if not scores:
            raise InputError(f'checkpoint {checkpoint} has no score on these images ({metrics or "it found nothing"})')
        report('as it is', scores)
        for what, names in groups.items():
            with replace_branches(runner.model, {n: statistics[n].mean if by == 'mean' else 0 for n in names}):
                after = _numbers(runner.test_loop.run())
            found = _scores(after)
            # mmdet has no metrics at all where a model finds nothing.
            replaced[what] = dict(scores={name: found.get(name, 0.0) for name in scores}, metrics=after)
            report(what, replaced[what]['scores'])
    shares = {name: dict(share=s.share, varying_share=s.varying_share) for name, s in statistics.items()}
    return dict(
        config=cfg.filename,
        checkpoint=checkpoint,
        replaced_by=by,
        images=len(runner.test_loop.dataloader.dataset),
        mixers=_mixers(branches),
        scores=scores,
        metrics=metrics,
        branches={name: replaced[name] | shares[name] for name in branches},
        kinds={kind: replaced[f'every {kind}'] for kind in kinds},
    )


def _mixers(branches: Mapping[str, Branch]) -> list[str]:
    """Names of the classes of the token mixers."""
    modules = (module for branch in branches.values() for module in branch.block.modules())
    return [*dict.fromkeys(type(module).__name__ for module in modules if isinstance(module, TokenMixer))]


def _kind(name: str) -> str:
    return name.rpartition('.')[2]


def _use_images(runner: Runner, number: int) -> None:
    """Evaluate this many test images, evenly spaced: the first ones of a folder may all be of one class."""
    loop = runner.test_loop
    dataset = loop.dataloader.dataset
    total = len(dataset)
    if number >= total:
        return
    try:
        dataset.get_subset_([i * total // number for i in range(number)])
    except (AttributeError, NotImplementedError):
        raise InputError(f'--images: a {type(dataset).__name__} has no subsets, leave the option out') from None
    loop.dataloader = runner.build_dataloader(dict(runner.cfg.test_dataloader, dataset=dataset), seed=runner.seed)
    for metric in loop.evaluator.metrics:
        if hasattr(metric, 'img_ids'):  # COCO's, which would count the objects of all other images as missed
            metric.img_ids = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if isinstance(value, Real)}


def _scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """By printed name the metrics that the table shows; COCO's -1 and NaN are none."""
    values = {name: value for name, value in metrics.items() if value >= 0}
    known = {}
    for name, value in values.items():
        score = SCORES.get(name) or SCORES.get(name.rpartition('/')[2])
        if score:
            known[score[0]] = score[1] * value
    return known or dict([*values.items()][:1])


@contextmanager
def _progress(runner: Runner, evaluations: int) -> Iterator[Any]:
    """A progress bar over all evaluations, and a function that prints a line for each."""
    progress = Progress(
        TextColumn('evaluating'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
        console=Console(file=sys.stdout, highlight=False, soft_wrap=True),
        transient=True,
    )
    bar = progress.add_task('', total=evaluations * len(runner.test_loop.dataloader))
    runner.register_hook(_Advance(progress, bar))
    start, done = time.monotonic(), 0

    def report(what: str, scores: Mapping[str, float]) -> None:
        nonlocal done
        done += 1
        left = timedelta(seconds=round((time.monotonic() - start) / done * (evaluations - done)))
        text = ', '.join(f'{name} {score:.1f}' for name, score in scores.items())
        progress.console.print(f'{done:3}/{evaluations}  {what:22} {text:28} {left} left')

    with progress:
        yield report


class _Advance(Hook):
    """Moves a progress bar with every batch."""

    def __init__(self, progress: Progress, bar: Any) -> None:
        self.progress, self.bar = progress, bar

    def after_test_iter(self, *args: Any, **kwargs: Any) -> None:
        self.progress.advance(self.bar)


@contextmanager
def _file_only(logger: logging.Logger) -> Iterator[None]:
    """Log to the file only, except for errors: every evaluation would fill a screen."""
    levels = {handler: handler.level for handler in logger.handlers if not isinstance(handler, logging.FileHandler)}
    for handler in levels:
        handler.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for handler, level in levels.items():
            handler.setLevel(level)
