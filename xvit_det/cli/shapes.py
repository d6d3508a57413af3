"""``xvit-det shapes OUT``: write Shapes, plain or in context, as a COCO folder with semantic label maps."""

from xvit_det.cli.common import Arguments, command, make_parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    from xvit_det.datasets.shapes import ContextSpec, ShapesSpec, ensure_label_maps

    parser = make_parser('shapes', 'Write the Shapes dataset as a COCO folder, with semantic label maps.')
    parser.add_argument('folder', metavar='OUT', help='the COCO folder to write')
    parser.add_argument('--context', action='store_true', help='classes depend on an object at the far end')
    parser.add_argument('--images', type=int, default=ShapesSpec.num_train, help='training images (%(default)s)')
    parser.add_argument('--val-images', type=int, default=ShapesSpec.num_val, help='validation images (%(default)s)')
    sizes = f'height of an image in pixels ({ShapesSpec.size}; in context {ContextSpec.size}, and three times as wide)'
    parser.add_argument('--size', type=int, help=sizes)
    parser.add_argument('--seed', type=int, default=ShapesSpec.seed, help='other seeds, other scenes (%(default)s)')
    args = parser.parse_args(argv)
    spec_type = ContextSpec if args.context else ShapesSpec
    size = spec_type.size if args.size is None else args.size
    spec = spec_type(args.images, args.val_images, size, args.seed)
    folder = ensure_label_maps(args.folder, spec)
    print(f'{folder}: {spec.num_train} training and {spec.num_val} validation images')


if __name__ == '__main__':
    main()
