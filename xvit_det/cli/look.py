"""``xvit-det look CHECKPOINT IMAGE``: figures of what a trained model computes from an image."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from xvit_det.cli.common import Arguments, add_model_arguments, check_writable, command, load_models, make_parser, share
from xvit_det.errors import InputError

if TYPE_CHECKING:
    from xvit_det.inference import Prediction, Predictor


LISTED = 10  # objects that are printed with their numbers


def _parser() -> ArgumentParser:
    parser = make_parser(
        'look',
        'Draw what a trained model computes from an image: the maps of backbone and neck (features.png), what each\n'
        "block's token mixer does at a point (tokens.png), and where the evidence for a prediction is (gradcam.png).",
    )
    parser.add_argument('checkpoint', nargs='+', help='the trained weights, or their address')
    parser.add_argument('image', help='an image file')
    add_model_arguments(parser)
    parser.add_argument('--out', type=Path, default='look', metavar='DIR', help='(default: %(default)s)')
    parser.add_argument(
        '--point',
        type=float,
        nargs=2,
        metavar=('X', 'Y'),
        help='of tokens.png, in pixels (default: the middle of the detection, else of the image)',
    )
    parser.add_argument(
        '--detection',
        type=int,
        default=0,
        metavar='K',
        help='object of gradcam.png, or class of a classifier or segmentor, from 0, best first (default: %(default)s)',
    )
    parser.add_argument('--block', type=int, metavar='N', help='tokens.png of this block only, from 0, with all heads')
    parser.add_argument(
        '--score', type=share, default=0.3, help='leave out objects with a lower score (default: %(default)s)'
    )
    parser.add_argument(
        '--receptive-field',
        action='store_true',
        help='draw only the effective receptive field of each map, of several checkpoints side by side',
    )
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    number = len(args.checkpoint)
    if number > 1 and not args.receptive_field:
        raise InputError(f'{number} checkpoints side by side need --receptive-field; the other figures are of one')
    check_writable(args.out)
    models = load_models(args)
    if args.receptive_field:
        _receptive_fields(models, args)
    else:
        _figures(models[0], args)


def _figures(model: 'Predictor', args: Namespace) -> None:
    """The three figures of one model. Those that cannot be made are reported, and the exit status says so."""
    from xvit_det.analysis.features import feature_maps, view
    from xvit_det.analysis.grad_cam import gradcam
    from xvit_det.analysis.tokens import token_maps
    from xvit_det.visualization.looking import draw_explanation, draw_features, draw_tokens

    prediction = model.predict(args.image, score=args.score)
    seen = view(model, args.image)
    scored = zip(prediction.names, prediction.scores, strict=True)
    found = [f'{i} {name} {score:.2f}' for i, (name, score) in enumerate(scored)]
    print(f'{args.image}: {", ".join(found[:LISTED]) or "nothing found"}{", …" if len(found) > LISTED else ""}')
    point = args.point or _middle(prediction, args.detection) or seen.middle
    title = f'{_short(args.checkpoint[0])}, {Path(args.image).name}'
    figures: dict[str, Callable[[], tuple[Callable, tuple]]] = {
        'features.png': lambda: (draw_features, (feature_maps(model, args.image),)),
        'tokens.png': lambda: (draw_tokens, (token_maps(model, args.image, point, args.block), point)),
        'gradcam.png': lambda: (draw_explanation, (gradcam(model, args.image, args.detection, score=args.score),)),
    }
    failed = False
    for name, compute in figures.items():
        try:
            draw, content = compute()
            draw(args.out / name, seen, *content, title)
            print(f'Figure: {args.out / name}')
        except InputError as error:
            failed = True
            print(f'error: no {name}: {error}', file=sys.stderr)
    if failed:
        raise SystemExit(1)


def _short(path: str) -> str:
    """The folder and name of a file."""
    return '/'.join(Path(path).parts[-2:])


def _middle(prediction: 'Prediction', detection: int) -> tuple[float, float] | None:
    """The middle of a detected object as x, y."""
    if prediction.boxes is None or not 0 <= detection < len(prediction):
        return None
    x1, y1, x2, y2 = prediction.boxes[detection]
    return float(x1 + x2) / 2, float(y1 + y2) / 2


def _receptive_fields(models: list['Predictor'], args: Namespace) -> None:
    """One figure of all models, and the shares within some distances."""
    from xvit_det.analysis.influence import DISTANCES, receptive_fields
    from xvit_det.visualization.looking import draw_receptive_fields

    short = [_short(path) for path in args.checkpoint]
    names = short if len({*short}) == len(short) else args.checkpoint
    fields = [(name, receptive_fields(model, args.image)) for name, model in zip(names, models, strict=True)]
    for name, levels in fields:
        for field in levels:
            shares = ', '.join(f'{100 * field.share_within(d):.0f} % within {d} px' for d in DISTANCES)
            print(f'{name}: {field.source}, stride {field.stride}: {shares}')
    path = args.out / 'receptive_field.png'
    draw_receptive_fields(path, fields, f'what the middle of each map depends on, {Path(args.image).name}')
    print(f'Figure: {path}')


if __name__ == '__main__':
    main()
