"""The figure of `large_images.py`: what each way of predicting finds in a part of a mosaic, and what it costs."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from pycocotools.mask import iou

PART = (700, 700, 600, 480)  # x, y, width and height in the mosaic
SHOWN = 0.3  # the score from which on a box is drawn
STYLES = {
    'right': dict(edgecolor='#00e05a', linestyle='-'),
    'wrong': dict(edgecolor='#ff2a2a', linestyle='-'),
    'missed': dict(edgecolor='#ffffff', linestyle=(0, (2, 2))),
}
COLORS = ('#2f6fde', '#e0662f', '#3a9d5d')
QUANTITIES = {'mAP': 'box mAP', 'seconds': 'CPU seconds per image, one thread', 'peak_gib': 'peak memory, GiB'}


def draw(path: Path, rows: Sequence[dict], truth: Path, found: dict[str, Path]) -> None:
    """Save the figure.

    Args:
        path: A JPEG file: textured images make large PNGs.
        rows: The record's.
        truth: COCO's annotations of the mosaics.
        found: By way of predicting: a file with X-ViT's boxes in COCO's format.
    """
    figure = Figure(figsize=(11, 6.4), layout='constrained', dpi=100)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.35, 1))
    coco = json.loads(truth.read_text())
    pixels = cv2.imread(str(truth.parent / coco['images'][0]['file_name']))[..., ::-1]
    objects = [inside for inside in map(_inside, _of_first(coco['annotations'])) if inside]
    for axes, (way, file) in zip(upper.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        boxes = [box for box in _of_first(json.loads(file.read_text())) if box['score'] >= SHOWN]
        _draw_part(axes, way, pixels, objects, [inside for inside in map(_inside, boxes) if inside])
    handles = [Line2D([], [], color=style['edgecolor'], linestyle=style['linestyle']) for style in STYLES.values()]
    legend = upper.legend(handles, [*STYLES], loc='outside lower center', ncols=3, fontsize=9)
    legend.get_frame().set_facecolor('#555555')
    for text in legend.get_texts():
        text.set_color('white')
    for axes, (key, title) in zip(lower.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        _draw_bars(axes, key, title, rows, [*found])
    lower.legend(
        *lower.axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=3, frameon=False, fontsize=9
    )
    figure.savefig(path, pil_kwargs=dict(quality=80))


def match(objects: Sequence[dict], boxes: Sequence[dict]) -> tuple[list[int], list[int]]:
    """Numbers of the boxes that are right, and of the objects that are found.

    A box is right if it has the class of an object and an IoU of at least 0.5 with it, and no better box has.
    """
    right: list[int] = []
    found: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -boxes[i]['score']):
        free = [j for j, o in enumerate(objects) if j not in found and o['category_id'] == boxes[i]['category_id']]
        if not free:
            continue
        overlaps = iou([boxes[i]['bbox']], [objects[j]['bbox'] for j in free], [0] * len(free))[0]
        if overlaps.max() >= 0.5:
            right.append(i)
            found.append(free[int(overlaps.argmax())])
    return right, found


def _of_first(rows: Sequence[dict]) -> list[dict]:
    return [row for row in rows if row['image_id'] == 1]


def _inside(row: dict) -> dict | None:
    """The same relative to the part that is shown, or ``None`` if it is not all in it."""
    (left, top, width, height), (x, y, w, h) = PART, row['bbox']
    if x < left or y < top or x + w > left + width or y + h > top + height:
        return None
    return row | dict(bbox=[x - left, y - top, w, h])


def _draw_part(axes: Axes, way: str, pixels: np.ndarray, objects: list[dict], boxes: list[dict]) -> None:
    left, top, width, height = PART
    axes.imshow(pixels[top : top + height, left : left + width], interpolation='antialiased')
    right, found = match(objects, boxes)
    groups = {
        'missed': [thing for j, thing in enumerate(objects) if j not in found],
        'wrong': [box for i, box in enumerate(boxes) if i not in right],
        'right': [boxes[i] for i in right],
    }
    for name, group in groups.items():
        for row in group:
            x, y, w, h = row['bbox']
            axes.add_patch(Rectangle((x - 5, y - 5), w + 10, h + 10, fill=False, linewidth=1.3, **STYLES[name]))
    counts = f'{len(found)} of {len(objects)} found, {len(groups["wrong"])} wrong'
    axes.set_title(f'X-ViT, {way}: {counts}', fontsize=10)
    axes.set_axis_off()


def _draw_bars(axes: Axes, key: str, title: str, rows: Sequence[dict], ways: Sequence[str]) -> None:
    """A group of bars for each backbone, one for each way; what was not possible has none."""
    values = {(row['backbone'], row['way']): row.get(key) for row in rows}
    backbones = list(dict.fromkeys(row['backbone'] for row in rows))
    for number, (way, color) in enumerate(zip(ways, COLORS, strict=False)):
        places = [i + (number - (len(ways) - 1) / 2) * 0.27 for i in range(len(backbones))]
        heights = [values.get((backbone, way)) or 0 for backbone in backbones]
        bars = axes.bar(places, heights, width=0.25, color=color, label=way)
        axes.bar_label(bars, [f'{height:.2g}' if height < 10 else f'{height:.0f}' for height in heights], fontsize=7)
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(len(backbones)), backbones)
    axes.margins(y=0.12)
    axes.spines[['top', 'right']].set_visible(False)
