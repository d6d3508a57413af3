"""``xvit-det test CONFIG CHECKPOINT``: evaluate a checkpoint, with the paper's figures beside its own."""

from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

from xvit_det.cli.common import OPTIONS_HELP, Arguments, add_config_arguments, add_run_arguments, command, make_parser
from xvit_det.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config


def _parser() -> ArgumentParser:
    parser = make_parser('test', 'Evaluate a checkpoint of a detector, segmentor or classifier.', OPTIONS_HELP)
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or http(s) address')
    add_run_arguments(parser)
    parser.add_argument(
        '--out',
        metavar='FILE.pkl',
        help='write all predictions, masks as COCO RLE and label maps as arrays, for offline use',
    )
    parser.add_argument('--show-dir', metavar='DIR', help='write images with the predictions drawn in')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or else the image and its mirror image",
    )
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise InputError(f'--out: {args.out!r} must end in .pkl')
    # After the arguments: help does not wait for torch.
    from xvit_det.cli.results import print_results
    from xvit_det.cli.runner import evaluate
    from xvit_det.config.data_check import check_test_data
    from xvit_det.config.launch import set_launcher
    from xvit_det.config.load import load_config
    from xvit_det.config.mistakes import told_failures
    from xvit_det.config.run_check import check_run
    from xvit_det.config.tta import use_tta

    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options, work_dir=args.work_dir)
    set_launcher(cfg, args.launcher, args.local_rank)
    check_run(cfg, train=False)
    check_test_data(cfg)
    if args.tta:
        use_tta(cfg)
    if args.show_dir:
        _draw_into(cfg, args.show_dir)
    with told_failures(cfg):
        metrics = evaluate(cfg, args.checkpoint, args.out)
    if metrics is not None:
        whose = 'published' if cfg.get('published') else 'paper'
        print_results(metrics, cfg.get(whose), whose)
        for what, path in (('Predictions', args.out), ('Images', args.show_dir)):
            if path:
                print(f'{what}: {path}')


def _draw_into(cfg: 'Config', folder: str) -> None:
    """Turn on the drawing hook of mmdet and mmseg (``draw``) or mmpretrain (``enable``)."""
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise InputError('--show-dir: the config has no default_hooks.visualization')
    path = str(Path(folder).resolve())  # mmdet puts a relative folder below its own
    if cfg.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, out_dir=path)
    elif cfg.get('default_scope') == 'mmseg':  # its hook leaves the folder to the visualizer
        hook.update(draw=True, interval=1)
        cfg.visualizer.vis_backends = [dict(type='LocalVisBackend', img_save_dir=path)]
    else:
        hook.update(draw=True, test_out_dir=path)


if __name__ == '__main__':
    main()
