"""``xvit-det train CONFIG``: train a detector (mmdet config), segmentor (mmseg) or classifier (mmpretrain)."""

from argparse import ArgumentParser

from xvit_det.cli.common import OPTIONS_HELP, Arguments, add_config_arguments, add_run_arguments, command, make_parser
from xvit_det.errors import InputError


def _parser() -> ArgumentParser:
    parser = make_parser('train', 'Train a detector, segmentor or classifier.', OPTIONS_HELP)
    add_config_arguments(parser)
    add_run_arguments(parser)
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
    parser.add_argument(
        '--skip-broken-images',
        action='store_true',
        help='replace training images that cannot be loaded by others, and name them, instead of stopping',
    )
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    # After the arguments: help does not wait for torch.
    from xvit_det.cli.runner import train
    from xvit_det.config.data_check import check_data
    from xvit_det.config.launch import set_launcher
    from xvit_det.config.load import load_config
    from xvit_det.config.mistakes import told_failures
    from xvit_det.config.model_check import check_model
    from xvit_det.config.run_check import check_run

    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options, work_dir=args.work_dir)
    set_launcher(cfg, args.launcher, args.local_rank)
    if args.amp:
        cfg.optim_wrapper.type = 'AutoAmpOptimWrapper'
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InputError('--auto-scale-lr: the config has no auto_scale_lr=dict(base_batch_size=...)')
        cfg.auto_scale_lr.enable = True
    weights = cfg.get('load_from')
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    check_run(cfg, train=True)
    check_model(cfg)  # as the data: in every process, so that all of them stop
    images = check_data(cfg, ('train', 'val'), images=not args.skip_broken_images)
    with told_failures(cfg):
        train(cfg, images, weights, args.skip_broken_images)


if __name__ == '__main__':
    main()
