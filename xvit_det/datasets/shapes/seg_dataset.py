"""Shapes as an mmseg dataset, for ``type='ShapesSegDataset'`` in a config."""

from typing import Any

from mmengine.registry import DATASETS
from mmseg.datasets import BaseSegDataset

from xvit_det.datasets.shapes.context import CONTEXT_CLASSES, CONTEXT_PALETTE
from xvit_det.datasets.shapes.drawing import CLASSES, PALETTE
from xvit_det.datasets.shapes.folder import (
    ContextSpec,
    ShapesSpec,
    check_split,
    ensure_label_maps,
    image_folder,
    label_folder,
)


@DATASETS.register_module()
class ShapesSegDataset(BaseSegDataset):
    """The scenes of ``ShapesDataset`` with a class for each pixel: 0 for the background, then the six kinds of shape.

    The background is a class like the others: there is no label to reduce or ignore.

    Args:
        split: ``'train'`` or ``'val'``.
        data_root: The COCO folder with its ``semantic/``; written on first use as by ``xvit-det shapes``.
        num_train: Training images of the folder.
        num_val: Validation images of the folder.
        size: Side of an image in pixels; ``None``: 192.
        seed: Other seeds draw other scenes. A folder with other numbers or another seed is refused, not reused.
        **kwargs: As for mmseg's ``BaseSegDataset``; ``data_prefix`` and the suffixes are set here.

    Raises:
        InputError: If the split is unknown or `data_root` holds something else.
    """

    METAINFO = {'classes': ('background', *CLASSES), 'palette': [(0, 0, 0), *PALETTE]}
    spec_type: type[ShapesSpec] = ShapesSpec

    def __init__(
        self,
        *,
        split: str = 'train',
        data_root: str = 'data/shapes',
        num_train: int = ShapesSpec.num_train,
        num_val: int = ShapesSpec.num_val,
        size: int | None = None,
        seed: int = ShapesSpec.seed,
        **kwargs: Any,
    ) -> None:
        check_split(split)
        self.spec = self.spec_type(num_train, num_val, self.spec_type.size if size is None else size, seed)
        super().__init__(
            data_root=str(data_root),
            data_prefix={'img_path': image_folder(split), 'seg_map_path': label_folder(split)},
            img_suffix='.png',
            **kwargs,
        )

    def full_init(self) -> None:
        """Draw what is not there; with ``lazy_init``, as when only class names are asked for, not yet."""
        ensure_label_maps(self.data_root, self.spec)
        super().full_init()


@DATASETS.register_module()
class ContextShapesSegDataset(ShapesSegDataset):
    """The scenes of ``ContextShapesDataset`` with a class for each pixel: background, sun, moon, day, night.

    Arguments are those of :class:`ShapesSegDataset`; ``size`` is the height of an image, by default 128.
    """

    METAINFO = {'classes': ('background', *CONTEXT_CLASSES), 'palette': [(0, 0, 0), *CONTEXT_PALETTE]}
    spec_type = ContextSpec
