"""How much does each attention of the demo's detector depend on the key that names the other shapes?

    python benchmarks/key_influence.py work_dirs/demo/checkpoint.pth data/shapes_context_v1_1000+100_128px_seed0

measures, at the middle of the best detection of another shape, how much of the influence of all other tokens is that of
the tokens in the box of the sun or moon. Shapes in context are named `day` or `night` by it.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import xvit_det
from xvit_det.analysis import token_maps
from xvit_det.benchmark.record import make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.datasets.shapes import annotation_file, image_folder
from xvit_det.datasets.shapes.context import NAMES
from xvit_det.inference import Predictor


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='of a detector, with its config beside it')
    parser.add_argument('data', type=Path, help='the folder of Shapes in context')
    parser.add_argument('--images', type=int, default=12, help='so many of the validation images (%(default)s)')
    parser.add_argument('--json', type=Path, help='where to record the result')
    return parser.parse_args()


def key_boxes(data: Path, images: int) -> dict[Path, list[float]]:
    """The box of the sun or moon, as x, y, width and height, in each of the first images."""
    coco = json.loads((data / annotation_file('val')).read_text())
    keys = {category['id'] for category in coco['categories'] if category['name'] in NAMES}
    boxes = {row['image_id']: row['bbox'] for row in coco['annotations'] if row['category_id'] in keys}
    return {data / image_folder('val') / row['file_name']: boxes[row['id']] for row in coco['images'][:images]}


def shares(predictor: Predictor, image: Path, box: list[float]) -> tuple[float, dict[str, float]] | None:
    """The share of the tokens that are in the box, and of their influence in each block.

    ``None``: no other shape is found.
    """
    found = predictor.predict(image)
    others = found.select(np.array([name not in NAMES for name in found.names], bool))
    if not len(others):
        return None
    x1, y1, x2, y2 = others.boxes[others.scores.argmax()]
    maps = token_maps(predictor, image, ((x1 + x2) / 2, (y1 + y2) / 2))
    influences = {token_map.block: token_map for token_map in maps if token_map.what == 'influence'}
    result = {}
    for block, (_, _, values, point) in influences.items():
        rows, columns = ((np.arange(n) + 0.5) * side / n for n, side in zip(values.shape, found.size, strict=True))
        x, y, width, height = box
        inside = ((rows >= y) & (rows < y + height))[:, None] & ((columns >= x) & (columns < x + width))
        values = values.copy()
        values[point] = 0
        result[block] = float(values[inside].sum() / values.sum())
    return float(inside.mean()), result


@command
def main() -> None:
    args = parse_args()
    predictor = xvit_det.load(args.checkpoint)
    found = [shares(predictor, image, box) for image, box in key_boxes(args.data, args.images).items()]
    found = [pair for pair in found if pair]
    areas = [area for area, _ in found]
    columns = {'tokens in the box': areas}
    for block in found[0][1] if found else ():
        columns[block] = [by_block[block] for _, by_block in found]
    rows = [
        dict(
            what=name,
            images=len(values),
            least=round(min(values), 3),
            mean=round(float(np.mean(values)), 3),
            most=round(max(values), 3),
        )
        for name, values in columns.items()
        if values
    ]
    show_table('Share of the key', rows)
    if args.json:
        header = make_header('key_influence', 'cpu', model=Path(predictor.cfg.filename).stem)
        args.json.write_text(json.dumps(dict(header=header, rows=rows), indent=1) + '\n')


if __name__ == '__main__':
    main()
