"""Data sets that need mmdet. Name this module in a config's ``custom_imports`` to have them registered."""

from xvit_det.datasets.shapes import ShapesDataset

__all__ = ['ShapesDataset']
