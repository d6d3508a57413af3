"""``xvit-det export CHECKPOINT``: a trained model as one file for onnxruntime, OpenVINO or torch.export, and a check
that it predicts the same there."""

from argparse import ArgumentParser, BooleanOptionalAction
from pathlib import Path

from xvit_det.cli.common import Arguments, check_positive, check_writable, command, make_parser
from xvit_det.errors import InputError

FORMATS = ('onnx', 'openvino', 'torch')
DTYPES = ('fp32', 'fp16', 'int8')
CALIBRATION = 64  # images


def _parser() -> ArgumentParser:
    parser = make_parser(
        'export',
        'Write a trained detector, segmentor or classifier as one file that runs without this package, with the\n'
        'normalisation, the heads, NMS and masks inside. Compares its predictions with those of the checkpoint, and\n'
        'ends with status 1 if in fp32 they differ.',
    )
    parser.add_argument('checkpoint', help='the trained weights, or their address')
    parser.add_argument(
        '--config', '--model', help='shipped config by name, or a file (default: the one beside the checkpoint)'
    )
    parser.add_argument('--format', choices=FORMATS, default='onnx', help='(default: %(default)s)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='(default: model.onnx, .xml or .pt2 beside it)')
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        default='fp32',
        help='of the weights and the products with them; everything else stays in fp32 (default: %(default)s)',
    )
    parser.add_argument(
        '--calibrate',
        nargs='+',
        metavar='PATH',
        help="images or folders from which --dtype int8 measures ranges (default: the config's training images)",
    )
    parser.add_argument('--opset', type=int, default=18, help='version of ONNX (default: %(default)s)')
    parser.add_argument('--fuse', action=BooleanOptionalAction, default=True, help='fold the backbone first')
    parser.add_argument('--full-size', action='store_true', help='images keep their size instead of that of the config')
    parser.add_argument(
        '--images',
        nargs='+',
        metavar='PATH',
        help="images or folders to compare on, of the model's own kind (default: its test images, else drawn scenes)",
    )
    parser.add_argument('--count', type=int, default=8, help='compare on so many of them (default: %(default)s)')
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    check_positive(args, 'count')
    # After the arguments: help does not wait for torch.
    from xvit_det.cli.export_run import check_packages, choose_images, compare, print_table, write
    from xvit_det.deploy import infer
    from xvit_det.deploy.export import SUFFIXES, check_target
    from xvit_det.inference import load
    from xvit_det.weights.files import is_address

    suffix = SUFFIXES[args.format]
    check_packages(args.format, args.dtype)
    if args.dtype != 'fp32' and args.format == 'torch':
        raise InputError(f'--dtype {args.dtype} is for --format onnx or openvino, not torch')
    if args.calibrate and args.dtype != 'int8':
        raise InputError(f'--calibrate is for --dtype int8, not {args.dtype}')
    ending = suffix if args.dtype == 'fp32' else f'_{args.dtype}{suffix}'
    source = Path(Path(args.checkpoint).name) if is_address(args.checkpoint) else Path(args.checkpoint)
    path = args.out or source.with_name(f'{source.stem}{ending}')
    if path.suffix != suffix:
        raise InputError(f'--out {path}: a file of the format {args.format} ends in {suffix}')
    check_target(path, args.opset)
    check_writable(path.parent)
    options = dict(config=args.config, device='cpu', full_size=args.full_size)
    plain, fused = (load(args.checkpoint, fuse=fuse, **options) for fuse in (False, True))
    model = fused if args.fuse else plain
    images = choose_images(model, args.images, ('test', 'val'), args.count)
    ranges = choose_images(model, args.calibrate, ('train',), CALIBRATION) if args.dtype == 'int8' else []
    print(f'Exporting {args.checkpoint} …', flush=True)
    write(model, path, args.opset, args.dtype, ranges)
    rows, differences = compare(plain, fused, path, images)
    print_table(rows, differences, len(images))
    print(f'Exported: {path}')
    if args.format == 'onnx':
        print(f'Runs with numpy, Pillow and onnxruntime alone: python {infer.__file__} {path} IMAGE')
    if differences.problem and args.dtype == 'fp32':
        raise SystemExit(f'error: {differences.problem}')
