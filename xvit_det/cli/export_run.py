"""What ``xvit-det export`` does after the export: compare predictions and time, and print both."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.table import Table
from torchvision.ops import box_iou

from xvit_det.config.data_paths import dataset_configs, resolve
from xvit_det.datasets.shapes import ShapesSpec
from xvit_det.deploy.export import export, to_openvino
from xvit_det.errors import InputError
from xvit_det.inference import Prediction, Predictor
from xvit_det.inference.exported import ExportedPredictor, file_size
from xvit_det.inference.sources import find_images
from xvit_det.screen import screen

PACKAGES = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'openvino': ('onnx', 'onnxscript', 'openvino'), 'torch': ()}
BOX_PIXELS, SCORE, MASK_IOU, LABEL_SHARE = 0.1, 1e-3, 0.99, 0.999
ROUNDS = 3


def check_packages(name: str, dtype: str) -> None:
    """Raise an ``InputError`` unless what a format and a dtype need is installed."""
    needed = [*PACKAGES[name], *(['onnxruntime'] if dtype != 'fp32' else [])]
    lacking = [package for package in needed if find_spec(package) is None]
    if lacking:
        raise InputError(
            f"--format {name} --dtype {dtype} needs {', '.join(lacking)}: pip install 'xvit_det[export,openvino]'"
        )


def choose_images(model: Predictor, paths: Sequence[str] | None, splits: Sequence[str], count: int) -> list[Any]:
    """Images of the model's kind: those given, else of the config's data where it is, else drawn scenes."""
    if paths:
        return list(find_images(paths))[:count]
    for dataset in (d for split in splits for d in dataset_configs(model.cfg, split)):
        prefix = dataset.get('data_prefix')
        folder = (prefix.get('img') or prefix.get('img_path')) if isinstance(prefix, dict) else prefix
        if folder is not None and Path(resolve(dataset, folder)).is_dir():
            try:
                return list(find_images([resolve(dataset, folder)]))[:count]
            except InputError:  # a folder without images
                continue
    spec = ShapesSpec()
    return [
        Image.fromarray(spec.draw('train' if 'train' in splits else 'val', number).image)
        for number in range(1, count + 1)
    ]


def write(model: Predictor, path: Path, opset: int, dtype: str, images: Sequence[Any]) -> None:
    """Export a model, in INT8 with ranges measured on images."""
    if dtype == 'fp32':
        export(model, path, opset)
        return
    from xvit_det.deploy.smaller import to_half, to_int8

    with TemporaryDirectory() as folder:
        source = Path(folder) / 'model.onnx'
        small = path if path.suffix == '.onnx' else Path(folder) / 'small.onnx'
        export(model, source, opset)
        if dtype == 'fp16':
            to_half(source, small)
        else:
            reader = ExportedPredictor(source)
            to_int8(source, small, [reader.inputs(image) for image in images])
        if small != path:
            to_openvino(small, path)


@dataclass
class Differences:
    """How far predictions are from those of the checkpoint.

    Attributes:
        objects: Number of objects, regions or classes that were compared.
        missing: Of these, how many the other has not.
        extra: How many objects the other has more.
        box: Largest difference of a corner, in pixels.
        score: Of a score.
        mask: Smallest IoU of two masks; of label maps, the smallest share of equal pixels.
    """

    objects: int = 0
    missing: int = 0
    extra: int = 0
    box: float = 0.0
    score: float = 0.0
    mask: float = 1.0
    mask_goal: float = MASK_IOU

    @property
    def problem(self) -> str:
        """Why the two are not the same, or nothing."""
        if not self.objects:
            return 'the checkpoint finds nothing in these images, so nothing was compared: give others with --images'
        if self.missing:
            return f'{self.missing} of {self.objects} predictions of the checkpoint are missing in the exported model'
        if self.extra:
            return f'the exported model finds {self.extra} objects more than the checkpoint'
        if self.box > BOX_PIXELS or self.score > SCORE or self.mask < self.mask_goal:
            return (
                f'the exported model differs from the checkpoint: by {self.box:.3g} pixels, {self.score:.3g} of a '
                f'score, and {self.mask:.4f} of masks agree'
            )
        return ''

    def add(self, expected: Prediction, found: Prediction) -> None:
        """Compare two predictions of an image."""
        if expected.label_map is not None:
            assert found.label_map is not None
            self.objects += len(expected)
            self.mask_goal = LABEL_SHARE
            self.mask = min(self.mask, float((expected.label_map == found.label_map).mean()))
        elif expected.boxes is None:
            self.objects += len(expected)
            self.missing += len({*expected.labels.tolist()} - {*found.labels.tolist()})
            scores = dict(zip(found.labels.tolist(), found.scores.tolist(), strict=True))
            gaps = [abs(scores.get(i, s) - s) for i, s in zip(expected.labels.tolist(), expected.scores, strict=True)]
            self.score = max([self.score, *gaps])
        else:
            self._add_objects(expected, found)

    def _add_objects(self, expected: Prediction, found: Prediction) -> None:
        assert expected.boxes is not None and found.boxes is not None
        overlaps = box_iou(torch.from_numpy(expected.boxes), torch.from_numpy(found.boxes)).numpy()
        same = (expected.labels[:, None] == found.labels) & (np.abs(expected.scores[:, None] - found.scores) < 0.05)
        overlaps = np.where(same, overlaps, 0.0)
        full = len(found) >= len(expected)
        self.extra += max(0, len(found) - len(expected))
        for i, score in enumerate(expected.scores):
            j = int(overlaps[i].argmax()) if len(found) else 0
            if not len(found) or overlaps[i, j] < 0.5:
                if full and score < found.scores.min(initial=1) + SCORE:
                    continue  # the last of a full list, where another came in by the last digit of its score
                self.missing += 1
            else:
                self._add_pair(expected, found, i, j)
                overlaps[:, j] = 0
            self.objects += 1

    def _add_pair(self, expected: Prediction, found: Prediction, i: int, j: int) -> None:
        assert expected.boxes is not None and found.boxes is not None
        self.box = max(self.box, float(np.abs(found.boxes[j] - expected.boxes[i]).max()))
        self.score = max(self.score, float(abs(found.scores[j] - expected.scores[i])))
        if expected.masks is not None and found.masks is not None:
            either = (expected.masks[i] | found.masks[j]).sum()
            both = (expected.masks[i] & found.masks[j]).sum()
            self.mask = min(self.mask, float(both / either) if either else 1.0)


def compare(
    plain: Predictor, fused: Predictor, path: Path, images: Sequence[Any]
) -> tuple[list[tuple[str, float, float]], Differences]:
    """Predict images by a checkpoint's model, plain and fused, and by the exported file, in turns.

    Returns:
        Rows of a name, megabytes and milliseconds an image (median), and the differences. Where OpenVINO is installed,
        an ONNX file has a row for it, too.
    """
    models = {'PyTorch': plain, 'PyTorch, fused': fused}
    sizes = {name: sum(tensor.nbytes for tensor in model.model.state_dict().values()) for name, model in models.items()}
    exported = {'.onnx': 'onnxruntime', '.xml': 'OpenVINO', '.pt2': 'torch.export'}[path.suffix]
    with TemporaryDirectory() as folder:
        files = {exported: path}
        if path.suffix == '.onnx' and find_spec('openvino'):
            files['OpenVINO'] = Path(folder) / 'model.xml'
            to_openvino(path, files['OpenVINO'])
        for name, file in files.items():
            models[name] = ExportedPredictor(file, threads=torch.get_num_threads())
            sizes[name] = file_size(file)
        differences = Differences()
        for image in images:
            differences.add(plain.predict(image, score=0.05), models[exported].predict(image, score=0.05))
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(ROUNDS):
            for image in images:
                for name, model in models.items():
                    start = time.perf_counter()
                    model.predict(image)
                    times[name].append(1e3 * (time.perf_counter() - start))
    return [(name, sizes[name] / 1e6, statistics.median(times[name])) for name in models], differences


def print_table(rows: Sequence[tuple[str, float, float]], differences: Differences, count: int) -> None:
    """Size, time, and how far the predictions are apart."""
    table = Table('runtime', title=f'{count} images, one at a time')
    for column in ('MB', 'ms/image', 'times as fast'):
        table.add_column(column, justify='right')
    for name, size, milliseconds in rows:
        table.add_row(name, f'{size:.1f}', f'{milliseconds:.1f}', f'{rows[0][2] / milliseconds:.2f}')
    screen(80).print(table)
    parts = [f'{differences.objects} predictions compared, {differences.missing} missing']
    parts.append(f'boxes differ by at most {differences.box:.2g} pixels, scores by {differences.score:.2g}')
    parts.append(f'masks agree by {differences.mask:.4f} or more')
    print('; '.join(parts))
