"""``xvit-det predict SOURCE --checkpoint FILE``: draw and list what a trained model finds in images or a video."""

import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from xvit_det.cli.common import Arguments, check_positive, check_writable, command, make_parser, share
from xvit_det.errors import InputError

if TYPE_CHECKING:
    from xvit_det.inference.exported import ExportedPredictor


def _parser() -> ArgumentParser:
    parser = make_parser(
        'predict',
        'Run a trained detector, segmentor or classifier on images, a video or a camera. Writes the images with the\n'
        'predictions drawn in, and predictions.json.',
    )
    parser.add_argument(
        'source',
        nargs='+',
        help="images, folders (with those inside), patterns such as 'photos/*.jpg'; or one video; or a camera's number",
    )
    parser.add_argument(
        '--checkpoint',
        required=True,
        metavar='FILE',
        help='the trained weights or their address, or a file of xvit-det export',
    )
    parser.add_argument(
        '--config', '--model', help='shipped config by name, or a file (default: the one beside the checkpoint)'
    )
    parser.add_argument('--out', type=Path, default='predictions', metavar='DIR', help='(default: %(default)s)')
    parser.add_argument(
        '--score', type=share, default=0.3, help='leave out objects with a lower score (default: %(default)s)'
    )
    parser.add_argument('--top-k', type=int, default=5, help="number of a classifier's classes (default: %(default)s)")
    parser.add_argument('--batch-size', type=int, default=1, help='images at once (default: %(default)s)')
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--full-size', action='store_true', help='predict images at their own size, in one pass')
    size.add_argument('--tiles', type=int, metavar='PIXELS', help='predict in overlapping tiles of this side')
    parser.add_argument(
        '--overlap', type=share, default=0.2, help='of tiles, a share of the side (default: %(default)s)'
    )
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    parser.add_argument(
        '--fuse', action=BooleanOptionalAction, default=False, help='faster; scores change in the last digits'
    )
    parser.add_argument('--tracks', action=BooleanOptionalAction, default=True, help='follow the objects of a video')
    parser.add_argument('--max-pixels', type=int, metavar='N', help='of an image file (default: 178,956,970)')
    return parser


def _load_exported(args: Namespace) -> 'ExportedPredictor':
    """A model that `xvit-det export` wrote; what was decided then cannot be chosen now."""
    from xvit_det.inference.exported import ExportedPredictor

    decided = {'--config': args.config, '--fuse': args.fuse, '--full-size': args.full_size}
    if given := [name for name, value in decided.items() if value]:
        raise InputError(f'{" and ".join(given)}: {args.checkpoint} is an exported model, give that to xvit-det export')
    if args.device not in (None, 'cpu'):
        raise InputError(f'--device {args.device}: exported models run on the CPU here')
    return ExportedPredictor(args.checkpoint)


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    check_positive(args, 'top-k', 'batch-size', 'max-pixels', 'tiles')
    if args.tiles and args.batch_size > 1:
        raise InputError('--tiles and --batch-size: tiles are predicted one by one')
    if args.overlap == 1:
        raise InputError('--overlap 1: tiles that overlap wholly never reach the end of the image')
    # After the arguments: help does not wait for torch.
    from PIL import Image

    from xvit_det.cli.predict_run import predict_images, predict_video
    from xvit_det.inference import load
    from xvit_det.inference.exported import is_exported
    from xvit_det.inference.results import import_supervision
    from xvit_det.inference.sources import Video, find_images
    from xvit_det.inference.tiles import check_tiles

    import_supervision()
    if args.max_pixels:
        Image.MAX_IMAGE_PIXELS = (args.max_pixels + 1) // 2  # Pillow refuses twice as many
    video = Video(args.source[0]) if len(args.source) == 1 and Video.is_one(args.source[0]) else None
    images = [] if video else find_images(args.source, leave_out=args.out)
    check_writable(args.out)
    model = (
        _load_exported(args)
        if is_exported(args.checkpoint)
        else load(args.checkpoint, args.config, device=args.device, fuse=args.fuse, full_size=args.full_size)
    )
    if args.tiles:
        check_tiles(model, args.tiles, args.overlap)
    record = predict_video(model, video, args) if video else predict_images(model, images, args)
    record.print_summary(args.out)
    if record.problem:
        print(f'error: {record.problem}', file=sys.stderr)
        raise SystemExit(1)


if __name__ == '__main__':
    main()
