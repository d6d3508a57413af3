"""How much of Grad-CAM and of HiResCAM lies inside the box of the object that they explain?

    python benchmarks/gradcam_share.py work_dirs/demo/checkpoint.pth data/shapes_context_v1_1000+100_128px_seed0/val2017

explains detections of a trained detector one by one, and compares their boxes with two controls: a box of the same size
at a random place, and the same detector with random weights.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import xvit_det
from xvit_det.analysis import gradcam
from xvit_det.benchmark.record import make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.inference import Predictor
from xvit_det.inference.sources import find_images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='of a detector, with its config beside it')
    parser.add_argument('images', help='a folder')
    parser.add_argument('--detections', type=int, default=50, help='how many to explain (default: %(default)s)')
    parser.add_argument('--json', type=Path, help='where to record the result')
    return parser.parse_args()


def shares(predictor: Predictor, images: list[Path], detections: int, score: float) -> dict[str, float]:
    """Mean shares inside the detections' boxes and inside random ones, and how many boxes hold at least half."""
    rng, rows = np.random.default_rng(0), []
    for image in images:
        for number in range(min(len(predictor.predict(image, score=score)), 10, detections - len(rows))):
            found = gradcam(predictor, image, number, score=score)
            (height, width), (x1, y1, x2, y2) = found.size, found.box
            x, y = rng.uniform(0, width - (x2 - x1)), rng.uniform(0, height - (y2 - y1))
            other = np.array([x, y, x + x2 - x1, y + y2 - y1])
            cams = (found.gradcam, found.hirescam)
            inside = [found.share_inside(cam, box) for cam in cams for box in (found.box, other)]
            rows.append([*inside, (x2 - x1) * (y2 - y1) / (height * width)])
    values = np.array(rows)
    mean = np.nanmean(values, axis=0)
    return dict(
        detections=len(rows),
        area=mean[4],
        gradcam=mean[0],
        gradcam_random_box=mean[1],
        gradcam_at_least_half=np.mean(values[:, 0] >= 0.5),
        hirescam=mean[2],
        hirescam_random_box=mean[3],
        hirescam_at_least_half=np.mean(values[:, 2] >= 0.5),
    )


@command
def main() -> None:
    args = parse_args()
    trained, images = xvit_det.load(args.checkpoint), find_images([args.images])
    torch.manual_seed(0)
    untrained = Predictor(xvit_det.create_model(trained.cfg.filename).eval(), trained.cfg, trained.classes)
    rows = []
    for weights, predictor, score in (('trained', trained, 0.3), ('random', untrained, 0.0)):
        found = shares(predictor, images, args.detections, score)
        rows.append(dict(weights=weights) | {name: round(float(value), 3) for name, value in found.items()})
    show_table('Share of the maps inside the box', rows)
    if args.json:
        header = make_header('gradcam_share', 'cpu', model=Path(trained.cfg.filename).stem)
        args.json.write_text(json.dumps(dict(header=header, rows=rows), indent=1) + '\n')


if __name__ == '__main__':
    main()
