"""The page of ``xvit-det web``: an image dropped, and what each model finds in it."""

import html
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from mmengine.config import Config
from PIL import Image

from xvit_det.analysis.features import view
from xvit_det.analysis.grad_cam import gradcam
from xvit_det.cli.predict_run import RESULTS, Record
from xvit_det.config.data_paths import dataset_configs, resolve
from xvit_det.datasets.images import EXTENSIONS
from xvit_det.datasets.shapes.folder import image_folder
from xvit_det.errors import InputError
from xvit_det.inference import Prediction, Predictor
from xvit_det.inference.images import read_image
from xvit_det.inference.sources import find_images
from xvit_det.visualization.looking import draw_explanation

EXAMPLES = 12  # at most
# Examples in their own shape, not as squares, and below the label.
STYLE = """
.thumbnail-item { aspect-ratio: auto !important; height: auto !important; }
.grid-container { grid-auto-rows: auto !important; margin-top: 24px; }
"""
SHOWN_SIDE = 1000  # pixels of an image's longer side on the page
# Of the events that run a model: one at a time.
ASKS_MODEL: dict[str, Any] = dict(concurrency_limit=1, concurrency_id='model', api_visibility='private')
Values = dict[Any, Any]  # of components


@dataclass(frozen=True)
class Found:
    """What the models find in the image on the page.

    Args:
        path: The image's file.
        pixels: (h, w, 3) in RGB, in the size that is shown.
        predictions: One of each model; a detector's has all scores.
    """

    path: str
    pixels: np.ndarray
    predictions: Sequence[Prediction]


class Panel:
    """The results of one model on the page.

    Args:
        number: Of the model, from 0.
        name: Stands above.
        model: As loaded, not fused.
        folder: For the files that the page offers.
    """

    def __init__(self, number: int, name: str, model: Predictor, folder: str) -> None:
        self.number, self.name, self.model, self.folder = number, name, model, folder
        with gr.Column():
            self.image = gr.AnnotatedImage(label=name)
            self.label = gr.Label(label='Classes', visible=False)
            self.evidence = gr.Image(show_label=False, visible=False, interactive=False, buttons=['fullscreen'])
            self.download = gr.DownloadButton('Download as JSON', size='sm', interactive=False)
        self.components = [self.image, self.label, self.evidence, self.download]

    def empty(self) -> Values:
        """Values of the components before an image is there."""
        hidden = {self.label: gr.Label(visible=False), self.evidence: gr.Image(visible=False)}
        return {self.image: None, self.download: gr.DownloadButton(value=None, interactive=False)} | hidden

    def show(self, found: Found, threshold: float) -> Values:
        """Values of the components for the image: objects with at least this score, or classes, or regions."""
        prediction = found.predictions[self.number]
        prediction = prediction.select(_shown(prediction, threshold))
        record = Record(self.model)
        record.add(prediction, file_name=Path(found.path).name)
        file = Path(tempfile.mkdtemp(dir=self.folder), RESULTS)
        file.write_text(record.to_json())
        values = self.empty() | {self.download: gr.DownloadButton(value=str(file), interactive=True)}
        if prediction.boxes is None and prediction.label_map is None:
            scores = dict(zip(_texts(prediction), prediction.scores.tolist(), strict=True))
            return values | {self.image: (found.pixels, []), self.label: gr.Label(scores, visible=True)}
        texts = _texts(prediction)
        colours = {
            text: to_hex(colormaps['tab10'](label % 10)) for text, label in zip(texts, prediction.labels, strict=True)
        }
        regions = list(zip(_regions(prediction, found.pixels.shape), texts, strict=True))
        return values | {self.image: gr.AnnotatedImage((found.pixels, regions), color_map=colours)}

    def explain(self, found: Found, threshold: float, event: gr.SelectData) -> Values:
        """Values of the components with Grad-CAM of the object, class or region that was clicked."""
        number = int(_shown(found.predictions[self.number], threshold)[event.index])
        file = Path(tempfile.mkdtemp(dir=self.folder), 'gradcam.png')
        try:
            draw_explanation(file, view(self.model, found.path), gradcam(self.model, found.path, number, score=0), '')
        except InputError as error:
            _warn(str(error), found.path)
            return {self.evidence: gr.Image(visible=False)}
        return {self.evidence: gr.Image(str(file), visible=True)}


def _shown(prediction: Prediction, threshold: float) -> np.ndarray:
    """Numbers of the objects with at least this score; of all classes or regions."""
    return np.flatnonzero((prediction.scores >= threshold) | (prediction.boxes is None))


def _texts(prediction: Prediction) -> list[str]:
    """What the page writes beside each object, class or region."""
    if prediction.label_map is not None:
        return [f'{name} {100 * share:.1f} %' for name, share in zip(prediction.names, prediction.scores, strict=True)]
    if prediction.boxes is None:  # the page draws the scores as bars; two classes of ImageNet are called crane
        numbered = zip(prediction.names, prediction.labels, strict=True)
        return [f'{name} ({label})' if prediction.names.count(name) > 1 else name for name, label in numbered]
    return [f'{name} {score:.2f}' for name, score in zip(prediction.names, prediction.scores, strict=True)]


def _regions(prediction: Prediction, shape: tuple[int, ...]) -> Sequence[np.ndarray | tuple[int, ...]]:
    """Masks with an outline, where there are none boxes, for the image in the size (h, w) in which it is shown."""
    height, width = shape[:2]
    boxes, masks = prediction.regions()
    if masks is None:
        scaled = boxes * (2 * [width / prediction.size[1], height / prediction.size[0]])
        return [tuple(box) for box in scaled.round().clip(0, 2 * [width, height]).astype(int).tolist()]
    resized = [cv2.resize(mask.astype(np.float32), (width, height)) > 0.5 for mask in masks]
    inside = [cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) for mask in resized]
    return [mask - 0.5 * part for mask, part in zip(resized, inside, strict=True)]  # how opaque


def _resize(pixels: np.ndarray, side: int) -> np.ndarray:
    """An image (H, W, 3) in BGR with its longer side of this length, in RGB."""
    factor = side / max(pixels.shape[:2])
    size = [max(1, round(length * factor)) for length in pixels.shape[1::-1]]
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=method)[..., ::-1])


def find_examples(folder: str | None, cfg: Config) -> list[tuple[str, np.ndarray]]:
    """Images that the page offers, each with a small one to click on.

    Args:
        folder: Where they are; ``None``: in the folder of the config's test images, none if that does not exist.
        cfg: The config.

    Raises:
        InputError: The folder does not exist or holds no images.
    """
    folder = folder or _test_images(cfg)
    if folder is None:
        return []
    examples: list[tuple[str, np.ndarray]] = []
    for path in find_images([folder]):
        if len(examples) == EXAMPLES:
            break
        try:
            examples.append((str(path), _resize(read_image(path), 200)))
        except InputError as error:
            print(f'skipped: {error}', file=sys.stderr)
    return examples


def _test_images(cfg: Config) -> str | None:
    """The folder of a config's test images, if it exists and holds images."""
    for dataset in (dataset for split in ('test', 'val') for dataset in dataset_configs(cfg, split)):
        prefix = dataset.get('data_prefix') or {}
        names = [prefix] if isinstance(prefix, str) else [prefix.get('img'), prefix.get('img_path')]
        for name in [*filter(None, names), image_folder('val')]:  # drawn datasets set theirs themselves
            folder = Path(resolve(dataset, name))
            if folder.is_dir() and any(path.suffix.lower() in EXTENSIONS for path in folder.iterdir()):
                return str(folder)
    return None


def build_page(
    names: Sequence[str],
    models: Sequence[Predictor],
    examples: Sequence[tuple[str, np.ndarray]],
    folder: str,
    max_megapixels: int,
) -> gr.Blocks:
    """The page.

    Args:
        names: Of the models, which stand above their results.
        models: One or two.
        examples: From :func:`find_examples`.
        folder: For the files that the page offers.
        max_megapixels: The largest size that an uploaded image may have, for the error message.
    """
    # Files that are a day old are removed, looked for every hour.
    with gr.Blocks(title='xvit-det', analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as page:
        found_state = gr.State()
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                upload = gr.File(label='Image', file_types=[*EXTENSIONS], height=150)
                score = gr.Slider(0, 1, 0.3, step=0.01, label='Score threshold')
                gr.Markdown('Point at a name to see it alone. Click it to see where the evidence for it is: Grad-CAM.')
                gallery = gr.Gallery(
                    [pixels for _, pixels in examples],
                    label='Examples',
                    columns=2,
                    object_fit='contain',
                    allow_preview=False,
                    buttons=[],
                    visible=bool(examples),
                )
            with gr.Column(scale=3), gr.Row():
                panels = [
                    Panel(i, name, model, folder) for i, (name, model) in enumerate(zip(names, models, strict=True))
                ]

        def show(found: Found | None, threshold: float) -> Values:
            values: Values = {}
            for panel in panels:
                values |= panel.show(found, threshold) if found else panel.empty()
            return values

        def predict(path: str, threshold: float) -> Values:
            cleared = {upload: None, found_state: None}  # so that the next image can be dropped
            try:
                pixels = _resize(read_image(path), SHOWN_SIDE)
                found = Found(path, pixels, [model.predict(path, score=0) for model in models])
            except InputError as error:
                too_large = isinstance(error.__cause__, Image.DecompressionBombError)
                limit = f'{path} has more than {max_megapixels} megapixels, the most that this page reads'
                _warn(limit if too_large else str(error), path)
                return show(None, threshold) | cleared
            detects = any(prediction.boxes is not None for prediction in found.predictions)
            return show(found, threshold) | cleared | {found_state: found, score: gr.Slider(visible=detects)}

        def predict_example(threshold: float, event: gr.SelectData) -> Values:
            return predict(examples[event.index][0], threshold)

        components = [component for panel in panels for component in panel.components]
        everything = [upload, found_state, score, *components]
        upload.upload(predict, [upload, score], everything, **ASKS_MODEL)
        gallery.select(predict_example, score, everything, **ASKS_MODEL)
        score.change(show, [found_state, score], components, trigger_mode='always_last', api_visibility='private')
        for panel in panels:
            for clicked in (panel.image, panel.label):
                clicked.select(panel.explain, [found_state, score], panel.evidence, **ASKS_MODEL)
    return page


def _warn(message: str, path: str) -> None:
    """Show a message about an image on the page, which takes HTML."""
    gr.Warning(html.escape(message.replace(path, Path(path).name)), duration=None)
