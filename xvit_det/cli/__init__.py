"""The command line: ``xvit-det COMMAND``, one file for each command."""

import sys
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module

import xvit_det
from xvit_det.stages import begin

# Command: what it does, and an example. Each is the function `main` of the module of its name.
COMMANDS = {
    'train': ('train a detector, segmentor or classifier', 'mask_rcnn_xvit_s_3x --data-root data/coco'),
    'test': ('evaluate a checkpoint', 'mask_rcnn_xvit_s_3x epoch_36.pth --data-root data/coco'),
    'check-data': (
        'find what is wrong with annotations in COCO format and their images',
        'annotations/train.json train/ --fix repaired.json',
    ),
    'predict': (
        'draw what a trained model finds in images or a video',
        'photos/ --checkpoint work_dirs/demo/checkpoint.pth',
    ),
    'look': (
        'draw what a trained model computes from an image: maps, attention, Grad-CAM',
        'work_dirs/demo/checkpoint.pth photo.jpg',
    ),
    'web': ('try one trained model, or two side by side, on a page in the browser', 'work_dirs/demo/checkpoint.pth'),
    'export': ('write a trained model as one file for other runtimes', 'work_dirs/demo/checkpoint.pth'),
    'convert': ("make other projects' weights a file for a config", 'maskrcnn_xcit_small_12_p16.pth'),
    'ablate': ('find out what each block of a trained model is worth', 'mask_rcnn_xvit_s_3x epoch_36.pth --images 500'),
    'linearize': (
        'exchange the attention of a trained model for a linear one, without labels',
        'mask_rcnn_xcit_small_12_p16_3x model.pth --mixer xnorm --images photos/',
    ),
    'demo': ('train a small detector or segmentor on drawn shapes, in minutes', '--task segmentation'),
    'models': ('list the shipped models with parameters and MACs', "'*xvit_s*'"),
    'benchmark': ('measure speed, memory and scaling beside peers', 'speed --models xvit_s swin_t --sizes 224'),
    'paper-tables': ("count the models of the ViX paper's tables", '--markdown'),
    'shapes': ('write a drawn dataset as a COCO folder', 'data/shapes --images 1000'),
    'env': ('report what is installed and what works here', '--check'),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command by its name."""
    parser = ArgumentParser(
        prog='xvit-det',
        description='Linear-attention vision backbones for OpenMMLab.',
        epilog=_help(),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'xvit_det {xvit_det.__version__}')
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND', help='one of those below')
    parser.add_argument('arguments', nargs=REMAINDER, help="the command's own; COMMAND --help lists them")
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        return parser.print_help()
    args = parser.parse_args(argv)
    begin()  # the command ends it
    module = import_module(f'xvit_det.cli.{args.command.replace("-", "_")}')
    sys.exit(module.main(args.arguments))


def _help() -> str:
    lines = ['commands:', *(f'  {name:14}{what}' for name, (what, _) in COMMANDS.items())]
    lines += ['', 'examples:', *(f'  xvit-det {name} {example}' for name, (_, example) in COMMANDS.items())]
    return '\n'.join(lines)
