"""Datasets of this package. A config names the module of the one that it needs in ``custom_imports``.

``xvit_det.datasets.shapes.dataset`` needs mmdet and ``xvit_det.datasets.tiny_imagenet`` needs mmpretrain; this one
needs neither.
"""
