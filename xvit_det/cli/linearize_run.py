"""What ``xvit-det linearize`` does: build teacher and student, train in mmengine's Runner, save what comes out."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner, find_latest_checkpoint, set_random_seed

import xvit_det.datasets.images  # noqa: F401  (registers what --images needs)
from xvit_det.backbones.base import find_backbone
from xvit_det.backbones.pretrained import load_pretrained
from xvit_det.cli.runner import ScreenRunner
from xvit_det.config.data_check import check_data
from xvit_det.config.linearize import (
    backbone_config,
    check_new_mixer,
    linearized_config,
    plain_preprocessor,
    unlabelled_loader,
    with_mixer,
)
from xvit_det.config.weights_check import check_checkpoint
from xvit_det.engine.divergence import StopAtDivergence
from xvit_det.engine.linearize import OPTIMIZER, Linearization, find_mixers
from xvit_det.errors import InputError
from xvit_det.hub import complete_model
from xvit_det.mixers import MIXERS, inherited_options
from xvit_det.visualization.curves import draw_errors
from xvit_det.weights.files import read_state_dict
from xvit_det.weights.translate import OPTIONAL

Errors = dict[str, list[tuple[int, float]]]  # by block, (step, error)


class Result(NamedTuple):
    """The files that were written, and the errors while training."""

    weights: Path
    config: Path
    picture: Path
    errors: Errors
    complete: bool  # whether the checkpoint had neck and heads, too


def linearize(cfg: Config, checkpoint: str, options: dict[str, Any], args: Namespace) -> Result:
    """Exchange the mixers of a trained model and train the new ones; the results are in ``cfg.work_dir``.

    Args:
        cfg: A config from :func:`xvit_det.config.load.load_config`.
        checkpoint: File or http(s) address of the trained model.
        options: Those of the new mixer. Options of the old one that it has, too, are kept.
        args: The command's: ``mixer``, ``images``, ``steps``, ``map_steps``, ``start``, ``resume`` and ``amp``.

    Raises:
        InputError: The model has no backbone of this package or this mixer already, the checkpoint is of another model,
            or there are no images.
    """
    set_random_seed((cfg.get('randomness') or {}).get('seed') or 0)  # of weights that start at random
    complete_model(cfg)
    model = MODELS.build({**cfg.model, '_scope_': cfg.get('default_scope')})
    name, teacher = find_backbone(model)
    part = backbone_config(cfg, name)
    options = inherited_options(part.get('mixer'), MIXERS.get(args.mixer)) | options
    mixer = dict(options, type=args.mixer) if options else args.mixer
    check_new_mixer(part, mixer)
    student = MODELS.build(with_mixer(part, mixer))
    report = load_pretrained(model, checkpoint)
    missing = report['missing']
    for keys, what in ((missing, 'lacks'), (report['unexpected'], 'also has')):
        if found := [key for key in keys if _matters(key, name)]:
            raise InputError(
                f'checkpoint {checkpoint} is of another backbone than the config: it {what} {found[0]} and '
                f'{len(found) - 1} other weights of blocks or stem'
            )
    if args.images is None:
        check_data(cfg, ('train',))
    preprocessor = plain_preprocessor(cfg) if args.images else model.data_preprocessor
    linearization = Linearization(teacher, student, args.start, args.steps, preprocessor)

    folder = Path(cfg.work_dir)
    runner = _build_runner(cfg, linearization, checkpoint, args)
    old, new = (type(next(iter(find_mixers(backbone).values()))).__name__ for backbone in (teacher, student))
    runner.logger.info(
        f'Linearizing {Path(cfg.filename).stem}: {len(find_mixers(student))} times {new} for {old}, '
        f'{args.steps + args.map_steps} steps of {cfg.train_dataloader.batch_size} images; results in {folder}'
    )
    runner.train()

    errors = _errors(runner)
    result = Result(
        folder / 'linearized.pth', folder / f'{folder.resolve().name}.py', folder / 'linearize.png', errors, not missing
    )
    model.set_submodule(name, student)
    weights = {key: weight.cpu() for key, weight in model.state_dict().items()}
    torch.save(dict(state_dict=weights, meta=_meta(runner)), result.weights)
    linearized_config(cfg, name, mixer, result.weights).dump(result.config)
    draw_errors(result.picture, errors, f'{Path(cfg.filename).stem}: {old} → {new}')
    figures = {name: dict(start=points[0][1], end=last_error(points)) for name, points in errors.items()}
    (folder / 'linearize.json').write_text(json.dumps(figures, indent=2) + '\n')
    return result


def last_error(points: list[tuple[int, float]]) -> float:
    """The mean of the last tenth of the steps: one batch more or less difficult does not count."""
    values = [value for _, value in points[-max(1, len(points) // 10) :]]
    return sum(values) / len(values)


def _matters(key: str, backbone: str) -> bool:
    """Whether a weight takes part in linearizing: of the backbone, and not of what only some of its uses have."""
    start = f'{backbone}.' if backbone else ''
    return key.startswith(start) and not key.removeprefix(start).startswith(OPTIONAL)


def _build_runner(cfg: Config, model: Linearization, checkpoint: str, args: Namespace) -> Runner:
    """The Runner; its logs and checkpoints are in a folder of their own, where a later training does not find them."""
    steps = args.steps + args.map_steps
    work_dir = str(Path(cfg.work_dir, 'linearizing'))
    if args.resume and (latest := find_latest_checkpoint(work_dir)):
        check_checkpoint(model, latest)
        saved = read_state_dict(latest)
        if any(
            not torch.equal(weight, saved[f'teacher.{name}']) for name, weight in model.teacher.state_dict().items()
        ):
            raise InputError(f'--resume: {latest} is of another teacher than {checkpoint}; give another --work-dir')
    return ScreenRunner(
        model=model,
        work_dir=work_dir,
        train_dataloader=unlabelled_loader(cfg, args.images),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
        optim_wrapper=dict(type='AutoAmpOptimWrapper' if args.amp else 'OptimWrapper', optimizer=dict(OPTIMIZER)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=steps, by_epoch=False),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=max(1, steps // 20), log_metric_by_epoch=False),
            checkpoint=dict(
                type='CheckpointHook', interval=max(1, steps // 10), by_epoch=False, max_keep_ckpts=1, save_last=True
            ),
        ),
        custom_hooks=[StopAtDivergence()],
        log_processor=dict(by_epoch=False),
        default_scope=cfg.get('default_scope', 'mmengine'),
        env_cfg=cfg.get('env_cfg', dict(dist_cfg=dict(backend='nccl'))),
        randomness=cfg.get('randomness') or dict(seed=0),
        resume=args.resume,
        cfg=cfg,
    )


def _errors(runner: Runner) -> Errors:
    """What the message hub kept, which checkpoints keep, too."""
    errors: Errors = {}
    for key, buffer in runner.message_hub.log_scalars.items():
        name = key.removeprefix('train/')
        if name.startswith(('blocks.', 'maps.')):
            values, _ = buffer.data
            first = 1 if name.startswith('blocks.') else runner.max_iters - len(values) + 1
            errors[name] = [(first + index, float(value)) for index, value in enumerate(values)]
    return errors


def _meta(runner: Runner) -> dict[str, Any]:
    """The names of the classes, which OpenMMLab's inferencers look for in a checkpoint."""
    metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', {})
    return dict(dataset_meta=metainfo) if metainfo.get('classes') else {}
