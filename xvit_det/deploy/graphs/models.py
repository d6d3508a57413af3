"""Whole models from images to predictions, as one module without loops over images, for export."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.deploy.graphs.boxes import Boxes, scale, true_at
from xvit_det.deploy.graphs.dense import check_dense_head, dense_boxes
from xvit_det.deploy.graphs.images import Normalize
from xvit_det.deploy.graphs.regions import check_roi_head, paste, region_boxes, region_masks
from xvit_det.errors import InputError


class DetectorGraph(nn.Module):
    """A detector of mmdet.

    Args:
        detector: In evaluation mode.
        takes_rgb: Whether its data preprocessor gets RGB, see :class:`Normalize`.
    """

    outputs: tuple[str, ...] = ('image', 'boxes', 'scores', 'labels')

    def __init__(self, detector: Any, takes_rgb: bool = False) -> None:
        super().__init__()
        self.normalize = Normalize(detector.data_preprocessor, takes_rgb)
        self.model = detector

    def forward(self, images: Tensor, sizes: Tensor, original_sizes: Tensor, score: Tensor) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            images: (B, H, W, 3) uint8 in RGB, each at the top left, padded to the model's multiple.
            sizes: (B, 2), the height and width that each covers.
            original_sizes: (B, 2), before resizing.
            score: Objects below it are left out.

        Returns:
            Of all objects of the batch: the numbers of their images (N,), boxes (N, 4) in pixels of the original
            images, scores (N,), and class numbers (N,). Those of an image begin with the best.
        """
        x = self.normalize(images, sizes)
        return tuple(_above(self.find(x, sizes, original_sizes / sizes), score))

    @property
    def largest_stride(self) -> int:
        """Of its maps. A map of one cell is a special case that is not exported: images are padded to more."""
        raise NotImplementedError

    def maps(self, x: Tensor) -> list[Tensor]:
        """The neck's maps of normalised images (B, 3, H, W)."""
        neck = self.model.neck
        if type(neck).__name__ != 'FPN' or neck.add_extra_convs:
            return list(self.model.extract_feat(x))
        # mmdet pools the last map with a kernel of 1, which torch's exporter records for odd or for even sides.
        wanted, neck.num_outs = neck.num_outs, neck.backbone_end_level - neck.start_level
        try:
            maps = list(self.model.extract_feat(x))
        finally:
            neck.num_outs = wanted
        while len(maps) < wanted:
            maps.append(maps[-1][:, :, ::2, ::2])
        return maps

    def find(self, x: Tensor, sizes: Tensor, factors: Tensor) -> Boxes:
        """Boxes in pixels of the original images, which are larger than those of the batch by ``factors`` (B, 2)."""
        raise NotImplementedError


class RetinaNetGraph(DetectorGraph):
    """RetinaNet (arXiv 1708.02002)."""

    def __init__(self, detector: Any, takes_rgb: bool = False) -> None:
        check_dense_head(detector.bbox_head)
        super().__init__(detector, takes_rgb)

    @property
    def largest_stride(self) -> int:
        return max(map(max, self.model.bbox_head.prior_generator.strides))

    def find(self, x: Tensor, sizes: Tensor, factors: Tensor) -> Boxes:
        return dense_boxes(self.model.bbox_head, self.maps(x), sizes, factors)


class DINOGraph(DetectorGraph):
    """DINO (arXiv 2203.03605)."""

    def __init__(self, detector: Any, takes_rgb: bool = False) -> None:
        from xvit_det.deploy.graphs.dino import check_dino

        check_dino(detector)
        super().__init__(detector, takes_rgb)

    @property
    def largest_stride(self) -> int:
        return 64  # four levels from 8 on

    def find(self, x: Tensor, sizes: Tensor, factors: Tensor) -> Boxes:
        from xvit_det.deploy.graphs.dino import dino_boxes

        return dino_boxes(self.model, self.maps(x), sizes, (x.shape[2], x.shape[3]), factors)


class RCNNGraph(DetectorGraph):
    """Faster R-CNN (arXiv 1506.01497), and Mask R-CNN (arXiv 1703.06870), which has one more output: masks
    (N, H', W') bool, as large as the largest of the original images."""

    def __init__(self, detector: Any, takes_rgb: bool = False) -> None:
        check_dense_head(detector.rpn_head)
        check_roi_head(detector.roi_head)
        super().__init__(detector, takes_rgb)
        if detector.roi_head.with_mask:
            self.outputs = (*self.outputs, 'masks')

    @property
    def largest_stride(self) -> int:
        return max(map(max, self.model.rpn_head.prior_generator.strides))

    def forward(self, images: Tensor, sizes: Tensor, original_sizes: Tensor, score: Tensor) -> tuple[Tensor, ...]:
        """As :class:`DetectorGraph`."""
        roi_head = self.model.roi_head
        factors = original_sizes / sizes
        maps = self.maps(self.normalize(images, sizes))
        proposals = dense_boxes(self.model.rpn_head, maps, sizes)
        if not roi_head.with_mask:
            return tuple(_above(region_boxes(roi_head, maps, proposals, sizes, factors), score))
        found = _above(region_boxes(roi_head, maps, proposals, sizes), score)
        masks = region_masks(roi_head, maps, found)
        boxes = scale(found.boxes, factors[found.images])
        height, width = (_extent(side) for side in original_sizes.amax(0).unbind())
        return *found._replace(boxes=boxes), paste(masks, boxes, height, width, roi_head.test_cfg.mask_thr_binary)


class SegmentorGraph(nn.Module):
    """A segmentor of mmseg that predicts whole images.

    Args:
        segmentor: In evaluation mode.
        takes_rgb: Whether its data preprocessor gets RGB, see :class:`Normalize`.
    """

    outputs = ('label_maps',)
    largest_stride = 32

    def __init__(self, segmentor: Any, takes_rgb: bool = False) -> None:
        super().__init__()
        mode = segmentor.test_cfg.get('mode', 'whole')
        if mode != 'whole' or segmentor.out_channels == 1:
            raise InputError(
                f'export knows segmentors of two or more output channels in mode whole, not {segmentor.out_channels} '
                f'in mode {mode}: set model.test_cfg.mode=whole'
            )
        if not hasattr(segmentor.decode_head, 'align_corners') or hasattr(segmentor.decode_head, 'query_embed'):
            raise InputError(f'export does not know the head {type(segmentor.decode_head).__name__}')
        self.normalize = Normalize(segmentor.data_preprocessor, takes_rgb)
        self.model = copy.deepcopy(segmentor)  # the caller's keeps its layers
        for module in list(self.model.modules()):
            for name, child in module.named_children():
                if type(child).__name__ == 'Upsample' and getattr(child, 'scale_factor', None):
                    setattr(module, name, _Upsample(child))

    def forward(self, images: Tensor, sizes: Tensor, original_sizes: Tensor) -> tuple[Tensor, ...]:
        """Segment.

        Args:
            images: (B, H, W, 3) uint8 in RGB, each at the top left, padded to the model's multiple.
            sizes: (B, 2), the height and width that each covers: the same for all.
            original_sizes: (B, 2), before resizing: the same for all.

        Returns:
            Class numbers (B, H', W'), uint8 or for more than 256 classes int32, of the original images' pixels.
        """
        head = self.model.decode_head
        x = self.normalize(images, sizes)
        logits = head(self.model.extract_feat(x))
        if not isinstance(logits, Tensor):
            raise InputError(f'export knows heads that give one map of logits, not {type(head).__name__}')
        interpolate = functools.partial(F.interpolate, mode='bilinear', align_corners=head.align_corners)
        height, width = (_extent(side) for side in sizes[0].unbind())
        logits = interpolate(logits, size=x.shape[2:])[:, :, :height, :width]
        height, width = (_extent(side) for side in original_sizes[0].unbind())
        labels = interpolate(logits, size=(height, width)).argmax(1)
        return (labels.to(torch.uint8 if logits.shape[1] <= 256 else torch.int32),)


class _Upsample(nn.Module):
    """mmseg's ``Upsample`` by a whole factor, which would make constants of the sizes.

    Args:
        layer: The layer that it takes the place of.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        if int(layer.scale_factor) != layer.scale_factor:
            raise InputError(f'export knows an Upsample by a whole factor, not by {layer.scale_factor}')
        self.factor = int(layer.scale_factor)
        self.options = dict(mode=layer.mode, align_corners=layer.align_corners)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, f·h, f·w)."""
        return F.interpolate(x, size=(self.factor * x.shape[2], self.factor * x.shape[3]), **self.options)


class ClassifierGraph(nn.Module):
    """A classifier of mmpretrain with a softmax.

    Args:
        classifier: In evaluation mode.
        takes_rgb: Whether its data preprocessor gets RGB, see :class:`Normalize`.
    """

    outputs = ('scores',)
    largest_stride = 32

    def __init__(self, classifier: Any, takes_rgb: bool = False) -> None:
        super().__init__()
        names = [base.__name__ for base in type(classifier.head).__mro__]
        if 'ClsHead' not in names or 'MultiLabelClsHead' in names:
            raise InputError(f'export knows classifiers with one class for an image, not those of {names[0]}')
        if (getattr(classifier.data_preprocessor, 'pad_size_divisor', None) or 1) > 1:
            raise InputError('export knows no classifiers that pad their images: pad_size_divisor > 1')
        self.normalize = Normalize(classifier.data_preprocessor, takes_rgb)
        self.model = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, H, W, 3) uint8 in RGB -> the probabilities of the classes (B, classes)."""
        return (self.model.head(self.model.extract_feat(self.normalize(images))).softmax(-1),)


GRAPHS: dict[str, Callable[..., nn.Module]] = {
    'RetinaNet': RetinaNetGraph,
    'DINO': DINOGraph,
    'FasterRCNN': RCNNGraph,
    'MaskRCNN': RCNNGraph,
    'EncoderDecoder': SegmentorGraph,
    'ImageClassifier': ClassifierGraph,
}


def _above(found: Boxes, score: Tensor) -> Boxes:
    """Those of at least this score."""
    return found.take(true_at(found.scores >= score)[:, 0])


def _extent(value: Tensor) -> int:
    """A size that is known when the graph runs only."""
    number: Any = value.item()  # int() would ask for its value while exporting
    torch._check(number >= 1)
    return number
