"""What a model finds in one image."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xvit_det.errors import InputError

if TYPE_CHECKING:
    from PIL import Image
    from supervision import Classifications, Detections


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a model finds in one image: objects, classes of the image, or a class for each pixel.

    Args:
        labels: (N,) class numbers: of the objects; of the best classes of the image; or of those in the label map.
        scores: (N,) from 0 to 1; for a label map the share of the image that each class covers.
        classes: Names of all classes of the model.
        size: Height and width of the image in pixels, upright as EXIF says.
        boxes: A detector's, (N, 4) as x1, y1, x2, y2 in pixels of the image.
        masks: (N, H, W) of bool, for detectors with masks.
        label_map: A segmentor's, (H, W) class numbers.
        tracks: (N,) numbers of the objects in a video, which stay the same from frame to frame, -1 where not known yet.
        image: What was given to the model.
    """

    labels: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]
    size: tuple[int, int]
    boxes: np.ndarray | None = None
    masks: np.ndarray | None = None
    label_map: np.ndarray | None = None
    tracks: np.ndarray | None = None
    image: Any = field(default=None)

    @classmethod
    def of_label_map(cls, label_map: np.ndarray, **common: Any) -> 'Prediction':
        """What a segmentor finds: the classes in a label map (H, W), the one that covers the most first.

        Args:
            label_map: (H, W).
            common: ``classes``, ``size`` and ``image``.
        """
        labels, counts = np.unique(label_map, return_counts=True)
        order = (-counts).argsort(kind='stable')
        return cls(labels[order], counts[order] / label_map.size, label_map=label_map, **common)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        found: dict[str, list[str]] = defaultdict(list)
        for name, score in zip(self.names, self.scores, strict=True):
            found[name].append(f'{score:.2f}')
        listed = [f'{name} {" ".join(scores)}' for name, scores in list(found.items())[:6]]
        height, width = self.size
        return f'Prediction({width} x {height}: {", ".join(listed) or "nothing"}{", …" if len(found) > 6 else ""})'

    @property
    def names(self) -> list[str]:
        """The class names of ``labels``."""
        return [self.classes[label] for label in self.labels]

    def select(self, which: np.ndarray) -> 'Prediction':
        """Some of the objects or classes.

        Args:
            which: Numbers, or a mask of bool, as numpy's indexing takes them.
        """
        parts = ('labels', 'scores', 'boxes', 'masks', 'tracks')
        return replace(self, **{name: part[which] for name in parts if (part := getattr(self, name)) is not None})

    def to_supervision(self) -> 'Detections | Classifications':
        """The same for `supervision <https://supervision.roboflow.com>`_.

        Returns:
            ``Classifications`` of a classifier, otherwise ``Detections`` with the class names as
            ``data['class_name']``, of a segmentor with a mask for each class.

        Raises:
            InputError: supervision is not installed.
        """
        supervision = import_supervision()
        if self.boxes is None and self.label_map is None:
            return supervision.Classifications(class_id=self.labels, confidence=self.scores)
        boxes, masks = self.regions()
        return supervision.Detections(
            xyxy=boxes,
            mask=masks,
            class_id=self.labels,
            confidence=self.scores if self.label_map is None else None,
            tracker_id=self.tracks,
            data=dict(class_name=np.array(self.names, dtype=str)),
        )

    def to_coco(self, image_id: int = 0, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """The objects, or the classes of a label map, in the format of COCO's results.

        Args:
            image_id: The image's number.
            category_ids: Those of the classes; ``None``: 1, 2, … in the order of the classes.

        Returns:
            For each a dict with ``image_id``, ``category_id``, ``bbox`` as x, y, width, height, ``area``, a
            detector's ``score`` and, where there are masks, ``segmentation`` as RLE.

        Raises:
            InputError: It is a classifier's, or there are not as many ``category_ids`` as classes.
        """
        if self.boxes is None and self.label_map is None:
            raise InputError('a classifier finds no objects that COCO has a format for; take labels and scores')
        ids = range(1, len(self.classes) + 1) if category_ids is None else list(category_ids)
        if len(ids) != len(self.classes):
            raise InputError(f'category_ids has {len(ids)} numbers for {len(self.classes)} classes')
        boxes, masks = self.regions()
        rows = []
        for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            box = [x1, y1, x2 - x1, y2 - y1]
            area = box[2] * box[3] if masks is None else int(masks[i].sum())
            row = dict(image_id=image_id, category_id=int(ids[self.labels[i]]), bbox=box, area=area)
            if self.label_map is None:
                row['score'] = float(self.scores[i])
            if masks is not None:
                row['segmentation'] = _encode(masks[i])
            if self.tracks is not None and self.tracks[i] >= 0:
                row['track_id'] = int(self.tracks[i])
            rows.append(row)
        return rows

    def draw(self, image: Any = None, enlarge: bool = True) -> 'Image.Image':
        """Draw boxes, masks, names and scores, with lines and text in proportion to the image.

        Args:
            image: What to draw on, as :meth:`xvit_det.inference.Predictor.predict` takes it; ``None``: what was
                predicted.
            enlarge: Enlarge an image whose text could not be read otherwise, by a whole number.

        Returns:
            An RGB image of Pillow.

        Raises:
            InputError: supervision is not installed, or the image has another size.
        """
        from xvit_det.inference.drawing import draw
        from xvit_det.inference.images import read_image

        canvas = read_image(self.image if image is None else image)
        if canvas.shape[:2] != self.size:
            sizes = [f'{width} x {height}' for height, width in (canvas.shape[:2], self.size)]
            raise InputError(f'the image has {sizes[0]} pixels, but the prediction is of one with {sizes[1]}')
        return draw(self, canvas, enlarge)

    def regions(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Boxes and masks, those of the classes for a label map."""
        if self.label_map is None:
            assert self.boxes is not None
            return self.boxes, self.masks
        masks = self.label_map == self.labels[:, None, None]  # (H, W), (N, 1, 1) -> (N, H, W)
        boxes = np.zeros((len(masks), 4))
        for box, mask in zip(boxes, masks, strict=True):
            (rows,), (columns,) = (mask.any(axis=axis).nonzero() for axis in (1, 0))
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes, masks


def import_supervision() -> Any:
    """The package, an extra.

    Raises:
        InputError: It is not installed.
    """
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise InputError(
            f"drawing predictions needs supervision (no module {error.name}): `pip install 'xvit_det[predict]'`"
        ) from None
    return supervision


def _encode(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's run lengths, which JSON can hold."""
    from pycocotools.mask import encode

    run_lengths = encode(np.asfortranarray(mask, np.uint8))
    return dict(size=run_lengths['size'], counts=run_lengths['counts'].decode())
