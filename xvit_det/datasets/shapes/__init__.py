"""Shapes: the built-in dataset of drawn scenes, a true COCO folder written on first use."""

from xvit_det.datasets.shapes.drawing import CLASSES, PALETTE
from xvit_det.datasets.shapes.folder import (
    ContextSpec,
    ShapesSpec,
    annotation_file,
    ensure_label_maps,
    ensure_shapes,
    image_folder,
    label_folder,
)

__all__ = [
    'CLASSES',
    'ContextSpec',
    'PALETTE',
    'ShapesSpec',
    'annotation_file',
    'ensure_label_maps',
    'ensure_shapes',
    'image_folder',
    'label_folder',
]
