"""Check the entries of an annotation file against one another; :mod:`xvit_det.coco.files` looks at the images."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from xvit_det.coco.problems import ERROR, FAR, NOTE, WARNING, Problem
from xvit_det.coco.segmentations import segmentation_fault

MOST_PIXELS = 2**30  # of an image, for OpenCV
MANY_BEYOND = 0.1  # share of boxes beyond their image that is no slip of annotators
FEW_BEYOND = 10  # boxes that prove nothing yet
LVIS_HOST = 'http://images.cocodataset.org/'  # of its addresses


def check_entries(
    content: dict[str, Any], *, masks: bool = True, evaluated: bool = True, needed: bool = True
) -> list[Problem]:
    """Everything that is wrong, doubtful or remarkable in an annotation file, errors first.

    An annotation is counted at its first fault, except those that a repair can complete.

    Args:
        content: From :func:`xvit_det.coco.reading.read_annotations`.
        masks: Whether the pipeline loads masks, so that every object needs a segmentation.
        evaluated: Whether pycocotools evaluates with the file, which needs ``iscrowd``, and ids that are numbers other
            than 0.
        needed: Whether there have to be objects.
    """
    found = Findings()
    images = _check_images(content['images'], found)
    categories = _check_categories(content['categories'], found)
    if not is_panoptic(content):
        annotations = _dicts(content.get('annotations', []))
        good = _check_keys(annotations, images, categories, found, evaluated)
        _check_boxes(annotations, images, good, found)
        _check_values(annotations, good, found, evaluated)
        if masks:
            _check_masks(annotations, images, good, found)
        found.add('crowd', good & _mask([bool(annotation.get('iscrowd')) for annotation in annotations]))
        objects = good & _mask([not (a.get('iscrowd') or a.get('ignore')) for a in annotations])
        if not images or (needed and not objects.any()):
            found['nothing_left'] = Problem('nothing_left', [])
        _note_unused(content, annotations, found)
    return sorted(found.values(), key=lambda problem: (ERROR, WARNING, NOTE).index(problem.level))


def is_panoptic(content: dict[str, Any]) -> bool:
    """Whether annotations are whole images in segments: they have no boxes, and are not checked."""
    return any('segments_info' in annotation for annotation in _dicts(content.get('annotations', [])))


class Findings(dict[str, Problem]):
    """Problems by kind."""

    def add(self, kind: str, faulty: Sequence[bool] | np.ndarray) -> np.ndarray:
        """Note the entries where ``faulty`` (n,) is true, if any; returns it."""
        mask = np.asarray(faulty, bool)
        if mask.any():
            self[kind] = Problem(kind, np.flatnonzero(mask).tolist())
        return mask


def _dicts(entries: list) -> list[dict]:
    """The entries, an empty one for each that is no object: it lacks everything."""
    return [entry if isinstance(entry, dict) else {} for entry in entries]


def _mask(values: list[bool]) -> np.ndarray:
    return np.array(values, bool)  # (n,), also where there is none


def is_id(value: Any) -> bool:
    """Whether a value can identify an entry: a whole number or a text."""
    return isinstance(value, int | str) or (isinstance(value, float) and value.is_integer())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ''


def file_of(image: dict[str, Any], by_url: bool = False) -> str | None:
    """Where mmdet looks for an image in the folder of images; ``None``: it names no file.

    Args:
        image: With a ``file_name``, or a ``coco_url`` as in LVIS v1, whose file is the address without the host.
        by_url: The address counts where there are both, as for mmdet's dataset of LVIS v1.
    """
    name, url = image.get('file_name'), image.get('coco_url')
    file = url.replace(LVIS_HOST, '') if isinstance(url, str) else None
    return (by_url and file) or (name if _is_text(name) else file) or None


def is_length(value: Any) -> bool:
    """Whether a value can be the width or height of an image."""
    return isinstance(value, int | float) and 0 < value < math.inf


def _check_images(entries: list, found: Findings) -> dict[Any, tuple[float, float] | None]:
    """Returns width and height of the images by id, ``None`` for those without a usable size."""
    images = _dicts(entries)
    usable = [is_id(image.get('id')) and file_of(image) is not None for image in images]
    sized = [
        (is_length(image.get('width')) and is_length(image.get('height')))
        and image['width'] * image['height'] < MOST_PIXELS
        for image in images
    ]
    found.add('image_keys', ~_mask(usable))
    found.add('image_unsized', _mask(usable) & ~_mask(sized))
    found.add('image_id_twice', repeated(images, usable, 'id', ('file_name', 'coco_url', 'width', 'height')))
    found.add(
        'image_file_twice',
        repeated(images, [ok and 'file_name' in i for ok, i in zip(usable, images, strict=True)], 'file_name'),
    )
    return {
        image['id']: (image['width'], image['height']) if has_size else None
        for ok, has_size, image in zip(usable, sized, images, strict=True)
        if ok
    }


def _check_categories(entries: list, found: Findings) -> set:
    """Returns the ids of the usable categories."""
    categories = _dicts(entries)
    usable = [is_id(category.get('id')) and _is_text(category.get('name')) for category in categories]
    found.add('category_keys', ~_mask(usable))
    found.add('category_id_twice', repeated(categories, usable, 'id', ('name',)))
    found.add('category_name_twice', repeated(categories, usable, 'name'))
    return {category['id'] for ok, category in zip(usable, categories, strict=True) if ok}


def repeated(
    entries: list[dict], usable: Sequence[bool] | np.ndarray, key: str, telling: Sequence[str] = ()
) -> np.ndarray:
    """Which of the usable entries have a value that others have, too: (n,), bool.

    Args:
        entries: Images, categories or annotations.
        usable: Which of them count.
        key: What has to be different.
        telling: If entries of one value differ in one of these keys, the first is as wrong as those after it.
    """
    repeats = np.zeros(len(entries), bool)
    values = [entry[key] for entry, ok in zip(entries, usable, strict=True) if ok]
    if len(set(values)) == len(values):
        return repeats
    groups = defaultdict(list)
    for position, (entry, ok) in enumerate(zip(entries, usable, strict=True)):
        if ok:
            groups[entry[key]].append(position)
    for group in groups.values():
        kinds = [[entries[position].get(other) for other in telling] for position in group]
        repeats[group[0 if any(kind != kinds[0] for kind in kinds) else 1 :]] = True
    return repeats


def _check_keys(annotations: list[dict], images: dict, categories: set, found: Findings, evaluated: bool) -> np.ndarray:
    """Returns the annotations without a fault so far: (n,), bool."""
    image_ids, category_ids, ids = (_ids(annotations, key) for key in ('image_id', 'category_id', 'id'))
    has_box = ['bbox' in annotation for annotation in annotations]
    good = ~found.add('annotation_keys', ~(_is_given(image_ids) & _is_given(category_ids) & _mask(has_box)))
    # pycocotools keeps the id of a matched object as a number, and takes 0 for none.
    unusable = _mask([evaluated and (isinstance(number, str) or number == 0) for number in ids])
    found.add('annotation_id', ~_is_given(ids) | unusable | repeated(annotations, _is_given(ids), 'id'))
    good &= ~found.add('image_unknown', good & _mask([number not in images for number in image_ids]))
    if None in images.values():  # those images are at fault
        good &= _mask([images.get(number) is not None for number in image_ids])
    good &= ~found.add('category_unknown', good & _mask([number not in categories for number in category_ids]))
    return good


def _ids(entries: list[dict], key: str) -> list:
    """What identifies something in each entry, ``None`` where that cannot."""
    values = [entry.get(key) for entry in entries]
    return values if {*map(type, values)} <= {int, str} else [value if is_id(value) else None for value in values]


def _is_given(ids: list) -> np.ndarray:
    return _mask([number is not None for number in ids])


def _check_boxes(annotations: list[dict], images: dict, good: np.ndarray, found: Findings) -> None:
    """Exclude from ``good`` (n,) those whose box is wrong, or left out by mmdet."""
    boxes = box_array([annotation.get('bbox') for annotation in annotations])
    good &= ~found.add('box_not_finite', good & ~np.isfinite(boxes).all(axis=1))
    unknown = (0, 0)
    sizes = [images[a['image_id']] if ok else unknown for ok, a in zip(good.tolist(), annotations, strict=True)]
    size = np.array(sizes, float).reshape(-1, 2)  # (n, 2), of the image
    start, extent = boxes[:, :2], boxes[:, 2:]
    with np.errstate(over='ignore', invalid='ignore'):
        end = start + extent  # (n, 2)
        far = (np.maximum(-start, end - size) > FAR * size.sum(axis=1, keepdims=True)).any(axis=1)
        beyond = ((start < -1) | (end > size + 1)).any(axis=1)
        outside = (np.minimum(end, size) <= np.maximum(start, 0)).any(axis=1)
    good &= ~found.add('box_far', good & far)
    good &= ~found.add('box_empty', good & (extent < 1).any(axis=1))
    good &= ~found.add('box_outside', good & outside)
    beyond &= good
    is_many = beyond.sum() > max(FEW_BEYOND, MANY_BEYOND * good.sum())
    fit_as_corners = np.all((extent > start) & (extent <= size + 1), axis=1)[good].all()
    found.add('boxes_beyond' if is_many and fit_as_corners else 'box_beyond', beyond)


def _check_values(annotations: list[dict], good: np.ndarray, found: Findings, evaluated: bool) -> None:
    """Exclude from ``good`` (n,) those without area."""
    areas = number_array([annotation.get('area') for annotation in annotations])
    found.add('area', good & ~np.isfinite(areas))
    good &= ~found.add('area_empty', good & (areas <= 0))
    if evaluated:
        found.add('iscrowd', good & _mask([annotation.get('iscrowd') not in (0, 1) for annotation in annotations]))


def _check_masks(annotations: list[dict], images: dict, good: np.ndarray, found: Findings) -> None:
    """Exclude from ``good`` (n,) those whose segmentation cannot be used."""
    faults: dict[str, list[int]] = defaultdict(list)
    for position in np.flatnonzero(good).tolist():
        annotation = annotations[position]
        width, height = images[annotation['image_id']]
        if fault := segmentation_fault(annotation.get('segmentation'), height, width):
            faults[fault].append(position)
    for kind, positions in faults.items():
        found[kind] = Problem(kind, positions)
        if kind != 'mask_part':
            good[positions] = False


def _note_unused(content: dict[str, Any], annotations: list[dict], found: Findings) -> None:
    for kind, entries, key in (('image_bare', 'images', 'image_id'), ('category_unused', 'categories', 'category_id')):
        used = {*_ids(annotations, key)}
        found.add(kind, [number is not None and number not in used for number in _ids(_dicts(content[entries]), 'id')])


def box_array(boxes: list) -> np.ndarray:
    """Boxes of a file as (n, 4) in float, NaN for what is not four numbers."""
    try:
        array = np.array(boxes)
    except (ValueError, OverflowError):  # of different lengths
        array = np.empty(0)
    if array.shape == (len(boxes), 4) and array.dtype.kind in 'iuf':
        return array.astype(float)
    rows = [box if isinstance(box, list) and len(box) == 4 else [None] * 4 for box in boxes]
    return number_array([number for row in rows for number in row]).reshape(-1, 4)


def number_array(values: list) -> np.ndarray:
    """Numbers of a file as (n,) in float, NaN for what is none."""
    return np.array([_number(value) for value in values], float)


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf
