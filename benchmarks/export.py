"""What an exported detector costs and finds: in fp32, fp16 and INT8, in PyTorch, onnxruntime and OpenVINO.

    python benchmarks/export.py work_dirs/demo/checkpoint.pth data/shapes_context_v1_1000+100_128px_seed0

exports the checkpoint, evaluates every file on the validation images with pycocotools, and times all of them in turns.
INT8 is measured for the whole model, for the backbone alone, for neck and heads alone, and, as a
control, with ranges of activations from black images.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import progress, show_table
from xvit_det.benchmark.timing import interleave, median_ratio
from xvit_det.cli.common import command
from xvit_det.datasets.shapes import annotation_file, image_folder
from xvit_det.deploy import fuse
from xvit_det.deploy.export import export, to_openvino
from xvit_det.deploy.smaller import to_half, to_int8
from xvit_det.inference import Predictor, load
from xvit_det.inference.exported import ExportedPredictor, file_size
from xvit_det.inference.sources import find_images

HEADS = ('model.neck.', 'model.rpn_head.', 'model.roi_head.', 'model.bbox_head.')
PARTS: dict[str, Callable[[str], bool]] = {
    'all': lambda weight: True,
    'backbone': lambda weight: not weight.startswith(HEADS),
    'neck and heads': lambda weight: weight.startswith(HEADS),
}
BLACK = 'all, ranges of black images'
COLORS = {'PyTorch': '#777777', 'PyTorch, fused': '#222222', 'onnxruntime': '#2f6fde', 'OpenVINO': '#e0662f'}

Key = tuple[str, str, str]  # runtime, dtype, parts in INT8


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='of a detector, with its config beside it')
    parser.add_argument('data', type=Path, help='the folder of drawn scenes that it was trained on')
    parser.add_argument('--images', type=int, default=100, help='evaluate on so many (%(default)s)')
    parser.add_argument('--calibrate', type=int, default=64, help='training images for INT8 (%(default)s)')
    parser.add_argument('--repeats', type=int, default=15, help='timed turns (%(default)s)')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', type=Path, help='where to record the result')
    return parser.parse_args()


def write_files(fused: Predictor, folder: Path, calibration: Sequence[Path]) -> dict[tuple[str, str], Path]:
    """ONNX files of a model by their dtype and, in INT8, the parts that have it."""
    files = {('fp32', ''): folder / 'fp32.onnx', ('fp16', ''): folder / 'fp16.onnx'}
    source = files['fp32', '']
    export(fused, source)
    to_half(source, files['fp16', ''])
    reader = ExportedPredictor(source)
    inputs = [reader.inputs(image) for image in calibration]
    black = [{**batch, 'images': 0 * batch['images']} for batch in inputs[:8]]
    for name in (*PARTS, BLACK):
        files['int8', name] = folder / f'int8 {name}.onnx'
        to_int8(source, files['int8', name], black if name == BLACK else inputs, PARTS.get(name, PARTS['all']))
    return files


def evaluate(model: Predictor, coco: COCO, folder: Path, count: int) -> dict[str, float]:
    """Box and mask mAP of the first images of an annotation file."""
    ids = sorted(coco.imgs)[:count]
    by_name = {category['name']: category['id'] for category in coco.cats.values()}
    found: list[dict[str, Any]] = []
    for i in ids:
        prediction = model.predict(folder / coco.imgs[i]['file_name'], score=0)
        found += prediction.to_coco(i, [by_name[name] for name in model.classes])
    scores = {}
    for kind in ('bbox', 'segm') if found and 'segmentation' in found[0] else ('bbox',):
        with contextlib.redirect_stdout(io.StringIO()):
            coco_eval = COCOeval(coco, coco.loadRes(found), kind)
            coco_eval.params.imgIds = ids
            coco_eval.evaluate()
            coco_eval.accumulate()
            coco_eval.summarize()
        scores[f'{kind}_mAP'] = round(float(coco_eval.stats[0]), 4)
    return scores


def draw(path: Path, rows: Sequence[dict], images: str) -> None:
    """Save the time of an image beside the size of the file, and its mask mAP, for each runtime and dtype."""
    figure = Figure(figsize=(8, 4.2), layout='constrained', dpi=110)
    axes = figure.subplots()
    for runtime, colour in COLORS.items():
        shown = [row for row in rows if row['runtime'] == runtime and row['parts'] in ('', 'all')]
        axes.scatter(
            [row['megabytes'] for row in shown], [row['milliseconds'] for row in shown], color=colour, label=runtime
        )
        for row in shown:
            text = f'{row["dtype"]}, mAP {row.get("segm_mAP", row["bbox_mAP"]):.3f}'
            place = (row['megabytes'], row['milliseconds'])
            axes.annotate(text, place, (6, -3), textcoords='offset points', fontsize=8, color=colour)
    axes.set(xlabel='megabytes', ylabel=f'ms per image ({images})', title='A trained detector in its runtimes', ylim=0)
    axes.set_xlim(0, 1.2 * max(row['megabytes'] for row in rows))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc='lower right')
    figure.savefig(path)


@command
def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    plain, fused, low = (load(args.checkpoint, device='cpu', fuse=fused) for fused in (False, True, False))
    fuse(low.model, dtype=torch.bfloat16)
    calibration = list(find_images([args.data / image_folder('train')]))[: args.calibrate]
    header = make_header('export', 'cpu', model=Path(plain.cfg.filename).stem, images=args.images)
    record = Record(header, args.json)
    models: dict[Key, Predictor] = {('PyTorch', 'fp32', ''): plain}
    models |= {('PyTorch, fused', 'fp32', ''): fused, ('PyTorch, fused', 'bf16', ''): low}
    sizes = {key: sum(x.nbytes for x in each.model.state_dict().values()) for key, each in models.items()}
    with tempfile.TemporaryDirectory() as work:
        for names, path in write_files(fused, Path(work), calibration).items():
            to_openvino(path, path.with_suffix('.xml'))
            for runtime, file in (('onnxruntime', path), ('OpenVINO', path.with_suffix('.xml'))):
                models[(runtime, *names)] = ExportedPredictor(file, threads=args.threads)
                sizes[(runtime, *names)] = file_size(file)
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(args.data / annotation_file('val'))
        folder = args.data / image_folder('val')
        scores = {key: evaluate(models[key], coco, folder, args.images) for key in progress(list(models), 'mAP')}
        images = [folder / image['file_name'] for image in list(coco.imgs.values())[:3]]
        steps = {key: partial(model.predict, images) for key, model in models.items()}
        times = interleave(steps, args.repeats, 'times')
    baseline = times['PyTorch', 'fp32', '']
    for key, seconds in times.items():
        record.add(
            dict(zip(('runtime', 'dtype', 'parts'), key, strict=True)),
            **scores[key],
            megabytes=round(sizes[key] / 1e6, 2),
            milliseconds=round(1e3 * median(seconds) / len(images), 1),
            times_as_fast=round(1 / median_ratio(seconds, baseline), 2),
        )
    show_table('Exported', record.rows)
    if args.json:
        height, width = plain.predict(images[0]).size
        draw(args.json.with_suffix('.png'), record.rows, f'{width} x {height} pixels, threads: {args.threads}')


if __name__ == '__main__':
    main()
