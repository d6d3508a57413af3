"""Predictions drawn into their images."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xvit_det.inference.results import Prediction, import_supervision

READABLE = 480  # pixels of the short side from which on text in proportion to it can be read
LARGEST = 2000  # pixels of the long side up to which smaller images are enlarged


def draw(prediction: Prediction, pixels: np.ndarray, enlarge: bool = True) -> Image.Image:
    """Draw a prediction: objects and regions in the colours of their classes.

    Args:
        prediction: What to draw.
        pixels: The image, (H, W, 3) in BGR.
        enlarge: As for :meth:`Prediction.draw`.

    Returns:
        An RGB image.

    Raises:
        InputError: supervision is not installed.
    """
    supervision = import_supervision()
    factor = max(1, min(READABLE // min(prediction.size), LARGEST // max(prediction.size))) if enlarge else 1
    image = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    text_size = max(12, round(0.03 * min(image.size)))
    if prediction.boxes is None and prediction.label_map is None:
        return _draw_lines(image, _texts(prediction), text_size)

    boxes, masks = prediction.regions()
    if len(boxes) == 0:
        return image
    if masks is not None:
        masks = masks.repeat(factor, axis=1).repeat(factor, axis=2)
    detections = replace(prediction.to_supervision(), xyxy=boxes * factor, mask=masks)
    palette = supervision.ColorPalette.from_matplotlib('tab10', 10)
    colours = dict(color=palette, color_lookup=supervision.ColorLookup.CLASS)
    if prediction.label_map is not None:
        image = image.convert('L').convert('RGB')  # every colour is that of a class
    if masks is not None:
        image = supervision.MaskAnnotator(opacity=0.5, **colours).annotate(image, detections)
    if prediction.label_map is None:
        thickness = max(1, round(0.005 * min(image.size)))
        image = supervision.BoxAnnotator(thickness=thickness, **colours).annotate(image, detections)
    position = supervision.Position.TOP_LEFT
    if prediction.label_map is not None and masks is not None:
        detections.xyxy, position = np.array([_middle(mask) for mask in masks]), supervision.Position.CENTER
    annotator = supervision.RichLabelAnnotator(
        text_color=supervision.ColorPalette([_readable_on(colour) for colour in palette.colors]),
        font_size=text_size,
        text_padding=max(2, text_size // 4),
        text_position=position,
        smart_position=True,
        **colours,
    )
    return annotator.annotate(image, detections, _texts(prediction))


def _texts(prediction: Prediction) -> list[str]:
    if prediction.label_map is not None:
        return prediction.names
    texts = [f'{name} {score:.2f}' for name, score in zip(prediction.names, prediction.scores, strict=True)]
    if prediction.tracks is not None:
        numbered = zip(prediction.tracks, texts, strict=True)
        texts = [f'#{track} {text}' if track >= 0 else text for track, text in numbered]
    return texts


def _middle(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The pixel furthest from a mask's outline, as a box: where the name of the region stands."""
    distances = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(distances.argmax(), mask.shape)
    return x, y, x + 1, y + 1


def _draw_lines(image: Image.Image, lines: list[str], text_size: int) -> Image.Image:
    """Write lines onto a dark field in the upper left corner."""
    text, font = '\n'.join(lines), ImageFont.load_default(text_size)
    canvas = ImageDraw.Draw(image, 'RGBA')
    margin = text_size // 2
    left, top, right, bottom = canvas.multiline_textbbox((margin, margin), text, font=font)
    canvas.rectangle((left - margin, top - margin, right + margin, bottom + margin), fill=(0, 0, 0, 170))
    canvas.multiline_text((margin, margin), text, font=font, fill='white')
    return image


def _readable_on(colour: Any) -> Any:
    """Black or white, whichever stands out from a colour of supervision."""
    supervision = import_supervision()
    red, green, blue = colour.as_rgb()
    return supervision.Color.BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else supervision.Color.WHITE
