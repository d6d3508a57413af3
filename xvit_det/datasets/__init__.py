"""Datasets of this package. A config names the module of the one that it needs in ``custom_imports``.

``xvit_det.datasets.shapes.dataset`` needs mmdet, ``xvit_det.datasets.shapes.seg_dataset`` mmseg and
``xvit_det.datasets.tiny_imagenet`` mmpretrain; this one needs none of them.
"""
