"""``xvit-det shapes OUT``: write the Shapes dataset as a COCO folder, with semantic label maps."""

from xvit_det.cli.common import Arguments, command, make_parser
from xvit_det.datasets.shapes import ShapesSpec, ensure_label_maps


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    parser = make_parser('shapes', 'Write the Shapes dataset as a COCO folder, with semantic label maps.')
    parser.add_argument('folder', metavar='OUT', help='the COCO folder to write')
    parser.add_argument('--images', type=int, default=ShapesSpec.num_train, help='training images (%(default)s)')
    parser.add_argument('--val-images', type=int, default=ShapesSpec.num_val, help='validation images (%(default)s)')
    parser.add_argument('--size', type=int, default=ShapesSpec.size, help='side of an image in pixels (%(default)s)')
    parser.add_argument('--seed', type=int, default=ShapesSpec.seed, help='other seeds, other scenes (%(default)s)')
    args = parser.parse_args(argv)
    spec = ShapesSpec(args.images, args.val_images, args.size, args.seed)
    folder = ensure_label_maps(args.folder, spec)
    print(f'{folder}: {spec.num_train} training and {spec.num_val} validation images')


if __name__ == '__main__':
    main()
