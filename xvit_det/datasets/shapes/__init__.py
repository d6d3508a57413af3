"""Shapes: the built-in data set of drawn scenes, a true COCO folder written on first use."""

from xvit_det.datasets.shapes.dataset import ShapesDataset
from xvit_det.datasets.shapes.drawing import CLASSES, PALETTE
from xvit_det.datasets.shapes.folder import ShapesSpec, annotation_file, ensure_shapes, image_folder

__all__ = ['CLASSES', 'PALETTE', 'ShapesDataset', 'ShapesSpec', 'annotation_file', 'ensure_shapes', 'image_folder']
