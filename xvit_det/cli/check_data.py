"""``xvit-det check-data CONFIG``, or ``ANNOTATIONS.json IMAGES``: what is wrong with a dataset in COCO's format."""

import json
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xvit_det.cli.common import Arguments, add_config_arguments, check_writable, command, make_parser, program
from xvit_det.errors import InputError
from xvit_det.stages import stage

if TYPE_CHECKING:
    from mmengine.config import Config

    from xvit_det.coco.problems import Problem
    from xvit_det.coco.statistics import Statistics
    from xvit_det.config.coco_data import CocoFile, Summary

STATUS_HELP = """
An error breaks training or evaluation, or makes it silently wrong. A warning marks entries that mmdet leaves out,
a note about what is legal, such as images without annotations.

exit status: 0 without errors, or if --fix wrote a file without them; 1 with errors; 2 for a file that cannot be read as
COCO's format, or wrong arguments.
"""
PICTURES = ('.png', '.svg', '.pdf')
SHOWN = 3  # entries of each kind of problem
MOST_CLASSES = 100  # rows of the table


def _parser() -> ArgumentParser:
    text = 'Check a dataset in COCO format: annotations, images, and both together.'
    parser = make_parser('check-data', text, STATUS_HELP)
    parser.usage = f'{program("check-data")} [options] CONFIG | ANNOTATIONS.json IMAGES'
    add_config_arguments(parser)
    parser.add_argument(
        'folder', nargs='?', metavar='IMAGES', help='after an annotation file: the folder of its images'
    )
    opened = 'open the images: finds damaged ones and other sizes than annotated (default: yes)'
    parser.add_argument('--images', action=BooleanOptionalAction, default=True, help=opened)
    parser.add_argument(
        '--masks',
        action=BooleanOptionalAction,
        default=True,
        help='of an annotation file: every object needs a segmentation (default: yes; a config says it itself)',
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='draw classes and object sizes as PNG, SVG or PDF')
    parser.add_argument(
        '--fix',
        type=Path,
        metavar='FILE',
        help='write an annotation file with the bad entries repaired, or else left out',
    )
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    for option, path in (('--out', args.out), ('--fix', args.fix)):
        if path:
            check_writable(path.parent, option)
            if path.is_dir():
                raise InputError(f'{option}: {path} is a folder; name a file in it')
    if args.out and args.out.suffix not in PICTURES:
        raise InputError(f'--out: {args.out} ends in none of {", ".join(PICTURES)}')
    # After the arguments: help does not wait for torch.
    from xvit_det.config.coco_data import Summary

    is_file = args.config.endswith('.json')
    cfg = None if is_file else _config(args)
    files = {_bare_file(args): ''} if cfg is None else _files_of_config(args, cfg)  # with their splits
    if args.fix and len(files) != 1:
        raise InputError(f'--fix takes an annotation file and its images, and config {args.config} has {len(files)}')
    sound, drawn = {}, {}
    for file, splits in files.items():
        content, broken, wrong = _look(file, args.images)
        problems = [*broken, *wrong]
        drawn[splits or file.path] = _show(file, splits, content, problems)
        if not any(problem.level == 'error' for problem in problems):
            sound[file] = Summary.of(content)
    if args.out:
        from xvit_det.visualization.annotations import draw_statistics

        draw_statistics(args.out, drawn)
        print(f'Picture: {args.out}')
    if args.fix:
        _fix(file, content, broken, args)
    elif len(sound) < len(files):
        print('Training or evaluation would break or be silently wrong.')
        raise SystemExit(1)
    elif cfg is not None:
        _check_rest(cfg, sound)


# The functions below import what they need: help does not wait for torch.


def _bare_file(args: Namespace) -> 'CocoFile':
    from xvit_det.config.coco_data import CocoFile

    if args.folder is None and args.images:
        raise InputError(f'give the folder of the images after {args.config}, or --no-images')
    if args.folder is not None and not Path(args.folder).is_dir():
        raise InputError(f'{args.folder} is not a folder of images')
    return CocoFile(args.config, args.folder, masks=args.masks)


def _config(args: Namespace) -> 'Config':
    from xvit_det.config.load import load_config

    return load_config(args.config, data_root=args.data_root, options=args.cfg_options)


def _files_of_config(args: Namespace, cfg: 'Config') -> dict['CocoFile', str]:
    from xvit_det.config.coco_data import coco_files
    from xvit_det.config.data_check import check_files
    from xvit_det.config.data_paths import SPLITS

    if args.folder is not None:
        raise InputError(f'{args.folder}: a folder of images follows an annotation file, and {args.config} is a config')
    check_files(cfg, SPLITS)
    files: dict[CocoFile, str] = {}
    for split, file in coco_files(cfg, SPLITS):
        files[file] = f'{files[file]}, {split}' if file in files else split
    return files


def _check_rest(cfg: 'Config', sound: dict['CocoFile', 'Summary']) -> None:
    """What is not in annotation files: class names, label maps and other datasets."""
    from xvit_det.config.data_check import check_data
    from xvit_det.config.data_paths import SPLITS

    counts = check_data(cfg, SPLITS, images=False, checked=sound)
    counted = ', '.join(f'{number:,} {split} images' for split, number in counts.items())
    print(f'The config and its data fit together: {counted or "no annotation files"}.')


def _look(file: 'CocoFile', opened: bool) -> tuple[dict[str, Any], list['Problem'], list['Problem']]:
    """The content of the file, the problems of its images on disk, and those of its entries."""
    from rich.console import Console
    from rich.progress import track

    from xvit_det.coco.check import check_entries
    from xvit_det.coco.files import check_listed, check_opened
    from xvit_det.coco.reading import read_annotations

    stage(f'Checking {file.path} and its images')
    content = read_annotations(file.path)
    broken = [] if file.folder is None else check_listed(content, file.folder, file.by_url)
    if opened and file.folder is not None:
        absent = {position for problem in broken for position in problem.positions}
        there = [position for position in range(len(content['images'])) if position not in absent]

        def progress(images: Iterable[None], number: int) -> Iterable[None]:
            return track(images, 'opening images', number, console=Console(stderr=True), transient=True)

        broken += check_opened(content, file.folder, there, by_url=file.by_url, progress=progress)
    return content, broken, check_entries(content, **file.needs)


def _show(file: 'CocoFile', splits: str, content: dict[str, Any], problems: list['Problem']) -> 'Statistics':
    from rich.markup import escape
    from rich.table import Table

    from xvit_det.coco.problems import printable
    from xvit_det.coco.statistics import ClassCount, summarize
    from xvit_det.screen import screen

    counts = ', '.join(f'{len(content.get(key, [])):,} {key}' for key in ('images', 'annotations', 'categories'))
    print(f'{splits + ": " if splits else ""}{file.path}: {counts}')
    table = Table('', 'what', 'number', 'first', show_lines=True)
    for problem in problems:
        first = [problem.describe(content, position) for position in problem.positions[:SHOWN]]
        number = f'{len(problem.positions):,}' if problem.positions else ''
        table.add_row(problem.level, problem.text, number, escape('\n'.join(first)))
    statistics = summarize(content)
    classes = Table('class', caption='sizes as in COCO: by area, 32² and 96² pixels')
    for column in ClassCount._fields[1:]:
        classes.add_column(column, justify='right')
    for name, *numbers in statistics.classes[:MOST_CLASSES]:
        classes.add_row(escape(printable(name)), *(f'{number:,}' for number in numbers))
    if len(statistics.classes) > MOST_CLASSES:
        classes.add_row(f'… {len(statistics.classes) - MOST_CLASSES} more')
    screen(160).print(classes, *([table] if problems else ['Nothing is wrong.']), sep='\n')
    return statistics


def _fix(file: 'CocoFile', content: dict[str, Any], broken: list['Problem'], args: Namespace) -> None:
    from xvit_det.coco.repair import Images, repair

    out: Path = args.fix
    images = Images(file.folder, file.by_url) if file.folder is not None and args.images else None
    if out.exists() and out.samefile(file.path):
        raise InputError(f'--fix: {out} is the file that is checked; write to another one')
    fixed, lines = repair(content, broken, images, **file.needs)
    out.write_text(json.dumps(fixed))
    counts = ' and '.join(f'{len(fixed[key]):,} {key}' for key in ('images', 'annotations'))
    print(*lines, f'Written: {out} with {counts}, {len(lines):,} changes', sep='\n')


if __name__ == '__main__':
    main()
