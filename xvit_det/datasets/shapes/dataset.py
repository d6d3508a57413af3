"""Shapes as an mmdet dataset, for ``type='ShapesDataset'`` in a config."""

from typing import Any

from mmdet.datasets import CocoDataset
from mmengine.registry import DATASETS

from xvit_det.datasets.shapes.context import CONTEXT_CLASSES, CONTEXT_PALETTE
from xvit_det.datasets.shapes.drawing import CLASSES, PALETTE
from xvit_det.datasets.shapes.folder import (
    ContextSpec,
    ShapesSpec,
    annotation_file,
    check_split,
    ensure_shapes,
    image_folder,
)


@DATASETS.register_module()
class ShapesDataset(CocoDataset):
    """Drawn scenes of circles, squares, triangles, stars, crosses and rings with their visible masks.

    The folder is written on first use as by ``xvit-det shapes``, then read like any COCO folder.

    Args:
        split: ``'train'`` or ``'val'``.
        data_root: The COCO folder. Relative paths start at the working directory, as with every mmdet dataset.
        num_train: Training images of the folder.
        num_val: Validation images of the folder.
        size: Side of an image in pixels; ``None``: 192.
        seed: Other seeds draw other scenes. A folder with other numbers or another seed is refused, not reused.
        **kwargs: As for mmdet's ``CocoDataset``; ``ann_file`` and ``data_prefix`` are set here.

    Raises:
        InputError: If the split is unknown or `data_root` holds something else.
    """

    METAINFO = {'classes': CLASSES, 'palette': list(PALETTE)}
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
            ann_file=annotation_file(split),
            data_prefix={'img': image_folder(split)},
            **kwargs,
        )

    def full_init(self) -> None:
        """Draw the folder if it is not there; with ``lazy_init``, as when only class names are asked for, not yet."""
        ensure_shapes(self.data_root, self.spec)
        super().full_init()


@DATASETS.register_module()
class ContextShapesDataset(ShapesDataset):
    """Drawn scenes with a sun or a moon at one end, and shapes at the other that it makes ``day`` or ``night``.

    Arguments are those of :class:`ShapesDataset`; ``size`` is the height of an image, by default 128, which is a third
    of its width.
    """

    METAINFO = {'classes': CONTEXT_CLASSES, 'palette': list(CONTEXT_PALETTE)}
    spec_type = ContextSpec
