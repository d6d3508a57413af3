"""Measure what it costs to convert X-ViT's maps, which are channels-last, to the format of a contiguous image.

    python benchmarks/memory_format.py --threads 2 --json benchmarks/cpu/memory_format.json

runs Mask R-CNN with X-ViT-S on a random image up to the backbone's maps, up to the neck's, and up to the RPN's, and a
training step up to the RPN's. Maps as they are and contiguous maps take turns.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from xvit_det import create_model
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.benchmark.timing import interleave, median_ratio
from xvit_det.cli.common import command

CONFIG = 'mask_rcnn_xvit_s_3x'


def maps(backbone: torch.nn.Module, image: Tensor, contiguous: bool) -> list[Tensor]:
    return [m.contiguous() if contiguous else m for m in backbone(image)]


def parts(size: tuple[int, int]) -> dict[str, Callable[[bool], object]]:
    """What is measured: each takes whether the maps are converted."""
    model = create_model(CONFIG)
    model.backbone.mask_padding = False  # a random image has none
    image = torch.randn(1, 3, *size)

    def inference(*layers: Callable, contiguous: bool) -> None:
        model.eval()
        with torch.no_grad():
            features = maps(model.backbone, image, contiguous)
            for layer in layers:
                features = layer(features)

    def training(contiguous: bool) -> None:
        model.train()
        scores, boxes = model.rpn_head(model.neck(maps(model.backbone, image, contiguous)))
        sum(m.square().mean() for m in (*scores, *boxes)).backward()
        model.zero_grad()

    return {
        'backbone': lambda contiguous: inference(contiguous=contiguous),
        'backbone, FPN': lambda contiguous: inference(model.neck, contiguous=contiguous),
        'backbone, FPN, RPN': lambda contiguous: inference(model.neck, model.rpn_head, contiguous=contiguous),
        'backbone, FPN, RPN, training': training,
    }


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1344), metavar=('H', 'W'))
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--json', type=Path, help='where to record the results; continued if it exists')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    header = make_header('memory_format', 'cpu', config=CONFIG, size=list(args.size), repeats=args.repeats)
    record = Record(header, args.json, resume=True)
    for part, run in parts(tuple(args.size)).items():
        if record.find(dict(part=part)):
            continue
        times = interleave({c: partial(run, c) for c in (False, True)}, args.repeats, part)
        milliseconds = {c: round(median(seconds) * 1e3, 1) for c, seconds in times.items()}
        ratio = round(median_ratio(times[True], times[False]), 3)
        record.add(dict(part=part), ms=milliseconds[False], contiguous_ms=milliseconds[True], ratio=ratio)
    show_table('Maps as they are, and contiguous', record.rows)


if __name__ == '__main__':
    main()
