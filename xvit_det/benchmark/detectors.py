"""``detector --beside``: whole detectors, end to end and in turns, with the same images.

With random weights no score passes a trained model's threshold, so that no masks would be made; without a threshold,
non-maximum suppression would get every box in every class, which no trained model causes. So each detector gets the
threshold at which it keeps a given number of objects.
"""

import copy
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from xvit_det.benchmark.cases import DTYPES, PHASES
from xvit_det.benchmark.record import Record
from xvit_det.benchmark.timing import interleave, median_ratio
from xvit_det.benchmark.training import build_loader, build_training, drop_pretrained
from xvit_det.deploy import fuse

Key = tuple[str, str | None]  # a config's name, and one of ``DTYPES`` in which its fused model computes


def measure_detectors(
    cfgs: Mapping[str, Config],
    record: Record,
    *,
    phases: Sequence[str],
    device: str,
    repeats: int,
    detections: int,
    checkpoint: str | None = None,
    fused: Sequence[str] = (),
) -> None:
    """Add a row for each phase and detector.

    Args:
        cfgs: Loaded MMDetection configs by name. All get the first batch of the first one's data loaders.
        record: Where the rows go.
        phases: Of ``PHASES``.
        device: ``'cpu'`` or ``'cuda'``.
        repeats: Timed steps of each kind.
        detections: Objects that a detector with random weights keeps in an image.
        checkpoint: The first detector's weights, with which it keeps its own score threshold.
        fused: In which of ``DTYPES`` the first detector also takes part in the test after
            :func:`~xvit_det.deploy.fuse`.

    Raises:
        InputError: ``fused``, but the first detector has no backbone of this package.
    """
    first = next(iter(cfgs))
    models: dict[Key, Any] = {}
    optimizers: dict[Key, Any] = {}
    with DefaultScope.overwrite_default_scope('mmdet'):
        batches = {phase: next(iter(build_loader(cfgs[first], PHASES[phase]))) for phase in phases}
        for name, cfg in cfgs.items():
            drop_pretrained(cfg.model)
            weights = checkpoint if name == first else None
            models[name, None], optimizers[name, None] = build_training(cfg, device, weights)
        for name in fused:
            dtype = getattr(torch, DTYPES[name])
            models[first, name] = fuse(copy.deepcopy(models[first, None]).eval(), dtype=dtype)
        if 'training' in phases:
            _measure_training(models, optimizers, batches['training'], record, repeats)
        if 'test' in phases:
            trained = first if checkpoint else None
            random = [model for (name, _), model in models.items() if name != trained]
            _measure_test(models, random, batches['test'], record, repeats, detections)


def _measure_training(
    models: Mapping[Key, Any], optimizers: Mapping[Key, Any], batch: dict, record: Record, repeats: int
) -> None:
    for key, optimizer in optimizers.items():
        models[key].train()
        for group in optimizer.param_groups:
            group['lr'] = 0.0  # so that every turn does the same work
    steps = {key: partial(models[key].train_step, batch, optimizer) for key, optimizer in optimizers.items()}
    _add_rows(record, 'training', batch, interleave(steps, repeats, 'training steps'), {})


@torch.no_grad()
def _measure_test(
    models: Mapping[Key, Any], random: Sequence[Any], batch: dict, record: Record, repeats: int, detections: int
) -> None:
    for model in models.values():
        model.eval()
    for model in random:
        limit_detections(model, batch, detections)
    kept = {key: len(predicted_scores(model, batch)) for key, model in models.items()}
    steps = {key: partial(model.test_step, batch) for key, model in models.items()}
    _add_rows(record, 'test', batch, interleave(steps, repeats, 'test steps'), kept)


def limit_detections(model: Any, batch: dict, detections: int) -> None:
    """Set the score threshold to what keeps this number of objects in an image, on average over the batch.

    A detector without a threshold, such as DETR, stays as it is: it always predicts the same number.
    """
    head = getattr(model, 'roi_head', None) or getattr(model, 'bbox_head', None)
    settings = getattr(head, 'test_cfg', None) or {}
    if 'score_thr' not in settings:
        return
    settings.update(score_thr=0.0, max_per_img=detections)
    best = predicted_scores(model, batch).sort(descending=True).values[: detections * len(batch['inputs'])]
    if len(best):
        settings['score_thr'] = best[-1].nextafter(best.new_zeros(())).item()  # scores must be above it


def predicted_scores(model: Any, batch: dict) -> Tensor:
    """The scores of all objects in all images."""
    return torch.cat([sample.pred_instances.scores for sample in model.test_step(batch)])


def _add_rows(
    record: Record, phase: str, batch: dict, seconds: Mapping[Key, list[float]], kept: Mapping[Key, int]
) -> None:
    images = ', '.join('{}x{}'.format(*image.shape[-2:]) for image in batch['inputs'])
    first = next(iter(seconds.values()))
    for (name, fused), turns in seconds.items():
        record.add(
            dict(phase=phase, model=name, fused=fused),
            images=images,
            detections=kept.get((name, fused)),
            ms=round(statistics.median(turns) * 1e3, 3),
            ms_min=round(min(turns) * 1e3, 3),
            ms_max=round(max(turns) * 1e3, 3),
            ratio_to_first=round(median_ratio(turns, first), 4),
        )
