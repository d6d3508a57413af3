"""``xvit-det convert FILE``: make another project's weights a file that a config of ours takes."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xvit_det.cli.common import Arguments, command, make_parser
from xvit_det.errors import InputError

if TYPE_CHECKING:
    from xvit_det.conversion import Conversion

CONSEQUENCES = {
    'missing': 'initialised when training starts',
    'anew': 'initialised',
    'resampled': 'for the tokens of this model',
    'left over': 'not used',
}


def _parser() -> ArgumentParser:
    parser = make_parser(
        'convert',
        'Give the weights of XCiT, DeiT, ViT or DINO, or of a model of ours, the names and shapes of a config.',
    )
    parser.add_argument('file', help='file of weights, or its http(s) address: .pth or .safetensors')
    parser.add_argument('--config', help='config file, or the name of a shipped one (default: the one that fits)')
    parser.add_argument('--mixer', help="another token mixer, which starts from the weights of the file's mixer")
    parser.add_argument('--output', metavar='FILE', help='what to write (default: beside the file, with its name)')
    parser.add_argument('--format', choices=('safetensors', 'pth'), default='safetensors', help='of the default output')
    parser.add_argument('--trust', action='store_true', help='read all of the file, which can run code from it')
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    if args.output and not args.output.endswith(('.pth', '.safetensors')):
        raise InputError(f'--output: {args.output!r} must end in .pth or .safetensors')
    # After the arguments: help does not wait for torch.
    from xvit_det.compat.quiet import without_log, without_remarks
    from xvit_det.conversion import convert
    from xvit_det.weights.files import local_file, write_weights

    if args.trust:
        os.environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    file = Path(local_file(args.file))
    output = Path(args.output or _default_output(file, args))
    if output.exists():
        raise InputError(f'{output} exists already; give another file with --output')
    with without_remarks(), without_log():
        result = convert(file, args.config, args.mixer, args.trust)
    write_weights(output, result.weights, result.header(file))
    _print(result, file)
    print(f'\nWritten: {output}\n\nNext:')
    print('\n'.join(f'  {line}' for line in _next(result, output)))


def _default_output(file: Path, args: Namespace) -> Path:
    """Beside the file; in this folder for an address."""
    from xvit_det.weights.files import is_address

    folder = Path() if is_address(args.file) else file.parent
    output = folder / f'{file.stem}{"_" + args.mixer if args.mixer else ""}.{args.format}'
    return output if output != file else output.with_stem(f'{output.stem}_xvit_det')


def _print(result: 'Conversion', file: Path) -> None:
    from rich.table import Table

    from xvit_det.conversion import grouped
    from xvit_det.screen import screen

    what = result.source or 'a model of xvit_det'
    print(f'{file.name}: {what} -> {result.config}{", mixer " + result.mixer if result.mixer else ""}')
    table = Table('weights', 'number', 'why')
    new = len(result.notes['anew'])
    table.add_row('matched', f'{len(result.weights) - new} of {result.size}', 'loaded into the model')
    for kind, notes in result.notes.items():
        for (part, why), number in grouped(notes).items():
            table.add_row(f'{kind}: {part}', str(number), f'{why}: {CONSEQUENCES[kind]}')
    screen(120).print(table)
    if result.source and result.source.assumed:
        print(f'The file does not say, and it is assumed: {result.source.assumed}')


def _next(result: 'Conversion', output: Path) -> Iterator[str]:
    """The commands that use the file: test it, if it is complete, and train from it."""
    from xvit_det.conversion import can_run

    if can_run(result):
        options = ' '.join(('--cfg-options', *result.options)) if result.options else ''
        yield f'xvit-det test {result.config} {output} --data-root DIR {options}'.rstrip()
    options = ' '.join(('--cfg-options', *result.options, f'load_from={output}'))
    yield f'xvit-det train {result.config} --data-root DIR {options}'


if __name__ == '__main__':
    main()
