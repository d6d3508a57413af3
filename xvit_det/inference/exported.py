"""Models that ``xvit-det export`` wrote, in their runtimes, with the interface of :class:`Predictor`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from xvit_det.deploy import infer
from xvit_det.errors import InputError
from xvit_det.inference.images import read_image
from xvit_det.inference.predictor import Predictor
from xvit_det.inference.results import Prediction


class OpenVINOModel(infer.Model):
    """An exported model in OpenVINO's runtime."""

    def __init__(self, path: str, threads: int = 0) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        if not model.has_rt_info(infer.KEY):
            raise ValueError(f'{path} was not written by xvit-det export')
        self.about = json.loads(model.get_rt_info(infer.KEY).astype(str))
        options = {'INFERENCE_PRECISION_HINT': 'f32'}  # its default on CPUs with bf16 changes what is found
        if threads:
            options['INFERENCE_NUM_THREADS'] = str(threads)
        self.compiled = core.compile_model(model, 'CPU', options)

    def call(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = self.compiled(list(inputs.values()))
        return [results[output] for output in self.compiled.outputs]


class TorchModel(infer.Model):
    """An exported model as a program of ``torch.export``."""

    def __init__(self, path: str, threads: int = 0) -> None:
        import torchvision  # noqa: F401  # programs of detectors call its operators

        extra = {infer.KEY: ''}
        self.module = torch.export.load(path, extra_files=extra).module()
        if not extra[infer.KEY]:
            raise ValueError(f'{path} was not written by xvit-det export')
        self.about = json.loads(extra[infer.KEY])

    def call(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [output.numpy() for output in self.module(*map(torch.from_numpy, inputs.values()))]


RUNTIMES: dict[str, tuple[type[infer.Model], str]] = {
    '.onnx': (infer.Model, 'onnxruntime'),
    '.xml': (OpenVINOModel, 'openvino'),
    '.pt2': (TorchModel, 'torch'),
}


def file_size(path: Path) -> int:
    """Bytes of an exported model. OpenVINO's weights are in a file of their own."""
    return sum(file.stat().st_size for file in (path, *([path.with_suffix('.bin')] if path.suffix == '.xml' else [])))


def is_exported(path: str | Path) -> bool:
    """Whether a file's name is that of an exported model, not of a checkpoint."""
    return Path(path).suffix in RUNTIMES


class ExportedPredictor(Predictor):
    """Images in, predictions out, by an exported model on the CPU.

    Args:
        path: A file of :func:`xvit_det.deploy.export`.
        threads: Of the CPU; 0: all.

    Raises:
        InputError: The file does not exist, is damaged or of something else, or its runtime is not installed.
    """

    takes_rgb = True
    device = torch.device('cpu')

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        if not Path(path).is_file():
            raise InputError(f'{path} does not exist')
        runtime, package = RUNTIMES[Path(path).suffix]
        try:
            self.runtime = runtime(str(path), threads=threads)
        except ModuleNotFoundError:
            raise InputError(f'{path} needs the package {package}: pip install {package}') from None
        except Exception as error:  # each runtime has its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f'{path} cannot be read as an exported model: {reason}') from error
        self.classes = self.runtime.about['classes']

    @property
    def task(self) -> str:
        return self.runtime.about['task']

    def prepare(self, image: Any) -> dict[str, Any]:
        original = Image.fromarray(np.ascontiguousarray(read_image(image)[..., ::-1]))
        inputs = infer.prepare(original, self.runtime.about['steps'])
        size, name = self.runtime.about['size'], image if isinstance(image, str | Path) else 'the image'
        if size and list(inputs.shape[:2]) != size:
            raise InputError(f'{name} has {inputs.shape[:2]} pixels, but the model was exported for {tuple(size)} only')
        return dict(inputs=inputs, original=original)

    def inputs(self, image: Any) -> dict[str, np.ndarray]:
        """The runtime's own inputs for an image."""
        data = self.prepare(image)
        return self.runtime.inputs([data['inputs']], [data['original']], 0.3)

    def _size(self, data: dict[str, Any]) -> tuple[int, ...]:
        return (*data['inputs'].shape, *data['original'].size)

    def _predict_batch(
        self, prepared: list[dict[str, Any]], images: Sequence[Any], score: float, top_k: int
    ) -> list[Prediction]:
        originals = [data['original'] for data in prepared]
        outputs = self.runtime.run([data['inputs'] for data in prepared], originals, score)
        return [self._convert_outputs(outputs, i, originals[i], image, top_k) for i, image in enumerate(images)]

    def _convert_outputs(
        self, outputs: dict[str, np.ndarray], row: int, original: Image.Image, image: Any, top_k: int
    ) -> Prediction:
        common: dict[str, Any] = dict(classes=self.classes, size=(original.height, original.width), image=image)
        if self.task == 'classification':
            scores = outputs['scores'][row]
            best = (-scores).argsort(kind='stable')[:top_k]
            return Prediction(best, scores[best], **common)
        if self.task == 'segmentation':
            return Prediction.of_label_map(outputs['label_maps'][row], **common)
        chosen = outputs['image'] == row
        masks = outputs['masks'][chosen] if 'masks' in outputs else None
        boxes, labels, scores = (outputs[name][chosen] for name in ('boxes', 'labels', 'scores'))
        return Prediction(labels, scores, boxes=boxes, masks=masks, **common)
