"""``python -m xvit_det.test CONFIG CHECKPOINT``: evaluate a checkpoint, with the paper's figures beside its own."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

import xvit_det  # noqa: F401  (before mmcv.ops can be imported: it may have to stand in for compiled ops)
from xvit_det.engine.checkpoint import check_checkpoint
from xvit_det.engine.cli import build_runner, command, load_config, make_parser
from xvit_det.engine.data_check import check_data
from xvit_det.engine.report import print_results
from xvit_det.engine.tta import use_tta
from xvit_det.errors import InputError


def _parser() -> ArgumentParser:
    parser = make_parser('Evaluate a checkpoint of a detector or a classifier.')
    parser.add_argument('checkpoint', help='checkpoint file or http(s) address')
    parser.add_argument('--out', metavar='FILE.pkl', help='write all predictions, masks as COCO RLE, for offline use')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures of the predictions')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or else the image and its mirror image",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise InputError(f'--out: {args.out!r} must end in .pkl')
    cfg = load_config(args)
    if not cfg.get('test_dataloader'):
        raise InputError(f'config {args.config} has no test_dataloader')
    check_data(cfg, ('test',))
    if args.tta:
        use_tta(cfg)
    if args.show_dir:
        _draw_into(cfg, args.show_dir)
    cfg.load_from, cfg.resume = args.checkpoint, False
    runner = build_runner(cfg)
    check_checkpoint(runner.model, args.checkpoint)
    if args.out:
        _dump_into(runner, args.out)
    metrics = runner.test()
    if runner.rank == 0:
        print_results(metrics, cfg.get('paper'))
        _name_outputs(args)


def _draw_into(cfg: Config, folder: str) -> None:
    """Turn on the picture hook of mmdet (``draw``) or mmpretrain (``enable``)."""
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise InputError('--show-dir: the config has no default_hooks.visualization')
    path = str(Path(folder).resolve())  # mmdet puts a relative folder below its own
    if cfg.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, out_dir=path)
    else:
        hook.update(draw=True, test_out_dir=path)


def _dump_into(runner: Runner, path: str) -> None:
    if runner.cfg.get('default_scope') == 'mmdet':
        from mmdet.evaluation import DumpDetResults as Dump
    else:
        Dump = DumpResults
    runner.test_evaluator.metrics.append(Dump(out_file_path=path))  # last: it changes the predictions it is given


def _name_outputs(args: Namespace) -> None:
    for what, path in (('Predictions', args.out), ('Pictures', args.show_dir)):
        if path:
            print(f'{what}: {path}')


if __name__ == '__main__':
    main()
