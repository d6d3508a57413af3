"""What differs between the demo's tasks: config, scores, and how annotations and predictions are drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from matplotlib.axes import Axes
from mmengine.dataset import BaseDataset

from xvit_det.datasets.shapes import ContextSpec, ShapesSpec, ensure_label_maps, ensure_shapes
from xvit_det.visualization.predictions import Instances, draw_grid, draw_instances, draw_labels

MIN_SCORE = 0.5


@dataclass(frozen=True)
class Task:
    """A task of the demo.

    Args:
        config: Name of the shipped config.
        model: Name of the model without its backbone.
        measure: What the scores are.
        scores: Key in the figures and printed name of each score that is followed while training.
        ensure: Makes sure that a folder holds the scenes of a specification, with what this task reads.
        figures: From the metrics of an evaluation to all figures, from 0 to 1.
        draw: Draws a dataset's annotations and the results of the model for its first images.
        slowdown: The time of all training with its evaluations, divided by that of as many first iterations.
        spec: Which scenes.
    """

    config: str
    model: str
    measure: str
    scores: dict[str, str]
    ensure: Callable[[Path, ShapesSpec], Path]
    figures: Callable[[dict[str, float]], dict[str, float]]
    draw: Callable[[Path, BaseDataset, Sequence[Any]], None]
    slowdown: float
    spec: type[ShapesSpec] = ShapesSpec


def _coco_figures(metrics: dict[str, float]) -> dict[str, float]:
    # Without a single prediction, as early in training, CocoMetric returns nothing at all.
    figures = {'bbox_mAP': 0.0, 'segm_mAP': 0.0}
    return figures | {name.removeprefix('coco/'): float(value) for name, value in metrics.items()}


def _iou_figures(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value) / 100, 4) for name, value in metrics.items()}  # mmseg's are percentages


def _draw_detections(path: Path, dataset: BaseDataset, results: Sequence[Any]) -> None:
    """Save annotated and predicted boxes and masks of each scene side by side."""
    from pycocotools.coco import COCO

    coco = COCO(dataset.ann_file)
    scenes = []
    for result in results:
        annotations = coco.imgToAnns[result.img_id]
        corners = np.array([a['bbox'] for a in annotations], float).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        truth = Instances(
            boxes=corners,
            masks=np.array([coco.annToMask(a) for a in annotations], bool),
            labels=np.array([dataset.cat2label[a['category_id']] for a in annotations]),
            crowds=np.array([a['iscrowd'] for a in annotations], bool),
        )
        sure = result.pred_instances[result.pred_instances.scores > MIN_SCORE].numpy()
        prediction = Instances(sure.bboxes, sure.masks, sure.labels, sure.scores)
        meta = dict(classes=dataset.metainfo['classes'], palette=dataset.metainfo['palette'])
        draw = partial(draw_instances, image=_image(result), **meta)
        scenes.append({'annotated': partial(draw, instances=truth), 'predicted': partial(draw, instances=prediction)})
    height, width = results[0].ori_shape
    draw_grid(path, scenes, aspect=width / height)


def _draw_segmentations(path: Path, dataset: BaseDataset, results: Sequence[Any]) -> None:
    """Save the image, the annotated and the predicted label map of each scene side by side."""
    classes, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    scenes = []
    for result in results:
        # (1, H, W) -> (H, W)
        truth, prediction = (maps.data[0].cpu().numpy() for maps in (result.gt_sem_seg, result.pred_sem_seg))
        scenes.append(
            {
                'image': partial(_draw_image, image=_image(result)),
                'annotated': partial(draw_labels, labels=truth, palette=palette),
                'predicted': partial(draw_labels, labels=prediction, palette=palette),
            }
        )
    draw_grid(path, scenes, legend=dict(zip(classes, palette, strict=True)))


def _image(result: Any) -> np.ndarray:
    return mmcv.imread(result.img_path, channel_order='rgb')


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image)


_DETECTION: dict[str, Any] = dict(
    model='Mask R-CNN',
    measure='COCO mAP',
    scores={'bbox_mAP': 'box mAP', 'segm_mAP': 'mask mAP'},
    ensure=ensure_shapes,
    figures=_coco_figures,
    draw=_draw_detections,
    slowdown=1.15,  # measured: later iterations have more objects to learn from (1.1), plus the evaluations
)
TASKS = {
    'context': Task(config='mask_rcnn_xvit_context', spec=ContextSpec, **_DETECTION),
    'detection': Task(config='mask_rcnn_xvit_shapes', **_DETECTION),
    'segmentation': Task(
        config='semantic_fpn_xvit_shapes',
        model='Semantic FPN',
        measure='mean IoU',
        scores={'mIoU': 'mIoU'},
        ensure=ensure_label_maps,
        figures=_iou_figures,
        draw=_draw_segmentations,
        slowdown=1.0,
    ),
}
