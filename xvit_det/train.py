"""``python -m xvit_det.train CONFIG``: train a detector (mmdet config) or a classifier (mmpretrain config)."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner, find_latest_checkpoint

import xvit_det  # noqa: F401  (before mmcv.ops can be imported: it may have to stand in for compiled ops)
from xvit_det.engine.checkpoint import check_checkpoint
from xvit_det.engine.cli import build_runner, command, load_config, make_parser
from xvit_det.engine.data_check import check_data
from xvit_det.errors import InputError


def _parser() -> ArgumentParser:
    parser = make_parser('Train a detector or a classifier.')
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16 or float16) if there is a GPU')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|PATH',
        help="go on from the work folder's last checkpoint, or from that in PATH",
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the real batch size over the config's auto_scale_lr.base_batch_size",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    cfg = load_config(args)
    _apply_training_options(cfg, args)
    images = check_data(cfg, ('train', 'val'))  # in every process, so that all of them stop
    if cfg.get('load_from') and cfg.get('resume') and not Path(cfg.load_from).is_file():
        raise InputError(f'--resume: {cfg.load_from} is not a file')
    runner = build_runner(cfg)
    _check_start(runner, cfg)
    _announce(runner, images)
    try:
        runner.train()
    except URLError as error:
        raise InputError(f'a data set wants to be downloaded, which failed ({error}); use --data-root DIR') from error


def _apply_training_options(cfg: Config, args: Namespace) -> None:
    if args.amp:
        cfg.optim_wrapper.type = 'AutoAmpOptimWrapper'
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InputError('--auto-scale-lr: the config has no auto_scale_lr=dict(base_batch_size=...)')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume


def _check_start(runner: Runner, cfg: Config) -> None:
    """Compare the checkpoint that training starts from, if any, with the model."""
    start = cfg.get('load_from')
    if cfg.get('resume') and not start:
        start = find_latest_checkpoint(cfg.work_dir)
        runner.logger.info(f'Resume from {start}.' if start else f'No checkpoint in {cfg.work_dir} yet: from scratch.')
    if start:
        check_checkpoint(runner.model, start, complete=bool(cfg.get('resume')))


def _announce(runner: Runner, images: dict[str, int]) -> None:
    parameters = sum(p.numel() for p in runner.model.parameters())
    counted = ', '.join(f'{n} {split} images' for split, n in images.items())
    batch = runner.cfg.train_dataloader.get('batch_size', '?')
    runner.logger.info(
        f'Training {Path(runner.cfg.filename).stem}: {parameters:,} parameters, {counted + ", " if counted else ""}'
        f'batch {batch} x {runner.world_size} on {get_device()}; logs and checkpoints in {runner.work_dir}'
    )


if __name__ == '__main__':
    main()
