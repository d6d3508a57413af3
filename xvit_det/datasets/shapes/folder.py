"""Write drawn scenes as a folder in COCO's layout, with semantic label maps beside it, whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from xvit_det.datasets.shapes.context import CONTEXT_CLASSES, draw_context_scene
from xvit_det.datasets.shapes.drawing import CLASSES, Dice, Scene, draw_scene
from xvit_det.errors import InputError

SPLITS = ('train', 'val')
_STAMP = 'shapes.json'
_LABEL_MAPS = 'semantic'


@dataclass(frozen=True)
class ShapesSpec:
    """What decides every pixel and annotation of a Shapes folder.

    Args:
        num_train: Training images.
        num_val: Validation images.
        size: Side of an image in pixels, at least 64.
        seed: Any whole number from 0.
        version: Version of the drawing code, raised whenever its images change.

    Raises:
        InputError: If a number is too small.
    """

    num_train: int = 1000
    num_val: int = 100
    size: int = 192
    seed: int = 0
    version: int = 2

    classes: ClassVar[tuple[str, ...]] = CLASSES
    least_size: ClassVar[int] = 64

    def __post_init__(self) -> None:
        for name, least in (('num_train', 1), ('num_val', 1), ('size', self.least_size), ('seed', 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f'Shapes: {name} must be a whole number of at least {least}, not {value!r}.')

    @property
    def folder_name(self) -> str:
        """A name that differs for every specification, such as ``v1_400+100_192px_seed0``."""
        return f'v{self.version}_{self.num_train}+{self.num_val}_{self.size}px_seed{self.seed}'

    def draw(self, split: str, image_id: int) -> Scene:
        """The scene of an image. It depends on its own number only: asking for more images keeps the first ones."""
        return self.draw_scene(Dice(self.seed, SPLITS.index(split), image_id), self.size)

    @staticmethod
    def draw_scene(dice: Dice, size: int) -> Scene:
        """Draw one of these scenes."""
        return draw_scene(dice, size)


@dataclass(frozen=True)
class ContextSpec(ShapesSpec):
    """:class:`ShapesSpec` for scenes in context, see :func:`draw_context_scene`; ``size`` is their height."""

    size: int = 128
    version: int = 1
    scenes: str = field(default='context', init=False)
    classes: ClassVar[tuple[str, ...]] = CONTEXT_CLASSES
    least_size: ClassVar[int] = 128

    @property
    def folder_name(self) -> str:
        return f'context_{super().folder_name}'

    @staticmethod
    def draw_scene(dice: Dice, size: int) -> Scene:
        return draw_context_scene(dice, size)


def annotation_file(split: str) -> str:
    """Where COCO keeps a split's annotations, relative to the folder."""
    return f'annotations/instances_{split}2017.json'


def image_folder(split: str) -> str:
    """Where COCO keeps a split's images, relative to the folder."""
    return f'{split}2017/'


def label_folder(split: str) -> str:
    """Where a split's label maps are, relative to the folder: PNGs named like the images."""
    return f'{_LABEL_MAPS}/{split}2017/'


def check_split(split: str) -> None:
    """Raise an InputError unless Shapes has this split."""
    if split not in SPLITS:
        raise InputError(f'Shapes has the splits {", ".join(SPLITS)}, not {split!r}.')


def ensure_shapes(folder: str | Path, spec: ShapesSpec) -> Path:
    """Make sure that `folder` holds the scenes of `spec`: draw and write them if it does not exist.

    The scenes are written beside it and renamed into place at the end, so an interrupted run leaves nothing behind
    that looks finished, and several processes (ranks of one training) may call this at once: the first to finish wins,
    and the others, which drew the same scenes, use its folder.

    Args:
        folder: The COCO folder, made with its parents.
        spec: Which scenes.

    Returns:
        The folder's path.

    Raises:
        InputError: If the folder holds anything but the scenes of `spec`.
    """
    folder = Path(folder)
    _write_whole(folder, lambda draft: _write(draft, spec))
    _check(folder, spec)
    return folder


def ensure_label_maps(folder: str | Path, spec: ShapesSpec) -> Path:
    """:func:`ensure_shapes`, for a folder from before there were label maps, too: they are added to it.

    The value of a pixel is the category of the shape that is visible there, from 1 as in the COCO file, or 0 for the
    background.
    """
    folder = ensure_shapes(folder, spec)
    _write_whole(folder / _LABEL_MAPS, lambda draft: _write_label_maps(draft, spec))
    return folder


def _write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Unless `folder` has something in it, let `write` fill a draft beside it and rename that into place."""
    if not _is_free(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
    try:
        write(draft)
        draft.chmod(0o777 & ~_umask())
        draft.rename(folder)
    except OSError:
        if _is_free(folder):  # No other process was faster: a full disk, for example.
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _umask() -> int:
    """The process's file mode mask, which `mkdtemp` ignores; reading it means setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _check(folder: Path, spec: ShapesSpec) -> None:
    try:
        found = json.loads((folder / _STAMP).read_text())
    except (OSError, ValueError):
        raise InputError(
            f'{folder} exists but is not a Shapes folder (it has no {_STAMP}): give another folder.'
        ) from None
    if found != asdict(spec):
        raise InputError(
            f'{folder} holds other Shapes ({_words(found)}) than asked for ({_words(asdict(spec))}): '
            'give another folder, or delete this one to draw them again.'
        )


def _words(spec: dict) -> str:
    return ', '.join(f'{name} {value}' for name, value in spec.items())


def _write(folder: Path, spec: ShapesSpec) -> None:
    (folder / 'annotations').mkdir()
    for split in SPLITS:
        (folder / image_folder(split)).mkdir()
        (folder / label_folder(split)).mkdir(parents=True)
        coco: dict[str, Any] = {
            'info': {'description': f'Shapes, drawn scenes ({_words(asdict(spec))}), {split} split', 'version': '1'},
            'licenses': [],
            'images': [],
            'annotations': [],
            'categories': [
                {'id': i, 'name': name, 'supercategory': 'shape'} for i, name in enumerate(spec.classes, start=1)
            ],
        }
        for image_id, name, scene in _scenes(split, spec):
            _write_image(folder / image_folder(split) / name, scene.image[..., ::-1])
            _write_image(folder / label_folder(split) / name, label_map(scene, spec.classes))
            coco['images'].append(
                {'id': image_id, 'file_name': name, 'width': scene.owner.shape[1], 'height': scene.owner.shape[0]}
            )
            for index, shape in enumerate(scene.shapes, start=1):
                annotation = {'id': len(coco['annotations']) + 1, 'image_id': image_id}
                annotation |= _annotate(scene.owner == index, spec.classes.index(shape.kind) + 1, shape.crowd)
                coco['annotations'].append(annotation)
        (folder / annotation_file(split)).write_text(json.dumps(coco, separators=(',', ':')))
    (folder / _STAMP).write_text(json.dumps(asdict(spec)))


def _write_label_maps(folder: Path, spec: ShapesSpec) -> None:
    for split in SPLITS:
        maps = folder / Path(label_folder(split)).name
        maps.mkdir()
        for _, name, scene in _scenes(split, spec):
            _write_image(maps / name, label_map(scene, spec.classes))


def _scenes(split: str, spec: ShapesSpec) -> Iterator[tuple[int, str, Scene]]:
    """Number, file name and drawing of each scene of a split."""
    count = spec.num_train if split == 'train' else spec.num_val
    for image_id in range(1, count + 1):
        yield image_id, f'{image_id:012d}.png', spec.draw(split, image_id)


def _write_image(path: Path, pixels: np.ndarray) -> None:
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f'Could not write the image {path}.')


def label_map(scene: Scene, classes: Sequence[str] = CLASSES) -> np.ndarray:
    """The category of each pixel's visible shape as (H, W) uint8, 0 for the background."""
    categories = np.array([0, *(classes.index(shape.kind) + 1 for shape in scene.shapes)], np.uint8)
    return categories[scene.owner]


def _annotate(mask: np.ndarray, category: int, crowd: bool) -> dict:
    """COCO's fields for one visible mask (H, W)."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return {
        'category_id': category,
        'bbox': [x, y, width, height],
        'area': int(mask.sum()),
        'iscrowd': int(crowd),
        'segmentation': run_lengths(mask) if crowd else polygons(mask),
    }


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed run-length encoding of a mask (H, W): lengths of runs down the columns, zeros first."""
    flat = np.concatenate(([0], mask.ravel(order='F').astype(np.int8), [1 - mask[-1, -1]]))
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate(([0], edges)))
    return {'size': list(mask.shape), 'counts': counts.tolist()}


def polygons(mask: np.ndarray) -> list[list[int]]:
    """COCO polygons ``[x1, y1, x2, y2, ...]`` along the pixel edges of a mask, which fill to exactly this mask.

    Args:
        mask: (H, W) of bool.

    Returns:
        One polygon for each part. COCO's polygons have no holes, so a part with a hole is cut in two through it.
    """
    # With each pixel doubled, a contour through pixel centres runs at 2x on a left edge and at 2x + 1 on a right one;
    # halving upwards puts both onto the edges x and x + 1.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for contour, (*_, parent) in zip(contours, hierarchy.reshape(-1, 4) if contours else (), strict=True):
        if parent >= 0:
            cut = int(contour[:, 0, 0].min() + contour[:, 0, 0].max() + 2) // 4
            left = np.arange(mask.shape[1]) < cut
            return polygons(mask & left) + polygons(mask & ~left)
    return [_without_repeats((contour[:, 0] + 1) // 2).ravel().tolist() for contour in contours]


def _without_repeats(points: np.ndarray) -> np.ndarray:
    """Drop points (P, 2) that equal the one before them, around the closed curve."""
    return points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
