"""What can be wrong with an annotation file: the kinds, how serious they are, and where they were found."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from reprlib import Repr
from typing import Any, NamedTuple

SHORT = Repr()  # values of any length and depth, in a message
SHORT.maxstring = SHORT.maxother = 80

FAR = 10  # image sizes, width plus height: the reach of boxes and polygons beyond their image

ERROR = 'error'  # training or evaluation breaks, or is silently wrong
WARNING = 'warning'  # mmdet leaves the entry out, which a reader of the file would not expect
NOTE = 'note'  # legal


class Kind(NamedTuple):
    """One kind of problem.

    Args:
        level: ``'error'``, ``'warning'`` or ``'note'``.
        entries: The list of the file that it is about: ``'images'``, ``'categories'`` or ``'annotations'``.
        text: What it is, as a plural.
    """

    level: str
    entries: str
    text: str


KINDS = {
    'image_keys': Kind(ERROR, 'images', 'images without a usable id or file_name'),
    'image_unsized': Kind(ERROR, 'images', 'images without a usable width or height'),
    'image_id_twice': Kind(ERROR, 'images', "images with another image's id"),
    'image_missing': Kind(ERROR, 'images', 'images that do not exist on disk'),
    'image_empty': Kind(ERROR, 'images', 'images whose file is empty (0 bytes)'),
    'image_unreadable': Kind(ERROR, 'images', 'images that cannot be read'),
    'image_size': Kind(ERROR, 'images', 'images that are loaded in another size than annotated'),
    'image_file_twice': Kind(NOTE, 'images', 'images with the file of another image'),
    'image_bare': Kind(NOTE, 'images', 'images without annotations'),
    'category_keys': Kind(ERROR, 'categories', 'categories without a usable id or name'),
    'category_id_twice': Kind(ERROR, 'categories', "categories with another category's id"),
    'category_name_twice': Kind(ERROR, 'categories', "categories with another category's name"),
    'category_unused': Kind(NOTE, 'categories', 'categories without annotations'),
    'annotation_keys': Kind(ERROR, 'annotations', 'annotations without a usable image_id, category_id or bbox'),
    'annotation_id': Kind(
        ERROR,
        'annotations',
        "annotations without an id, with another's, or with one that evaluation mistakes",
    ),
    'image_unknown': Kind(ERROR, 'annotations', 'annotations of an image_id that no image has'),
    'category_unknown': Kind(ERROR, 'annotations', 'annotations of a category_id that no category has'),
    'box_not_finite': Kind(ERROR, 'annotations', 'boxes that are not four finite numbers'),
    'box_far': Kind(ERROR, 'annotations', f'boxes that reach more than {FAR} image sizes beyond their image'),
    'box_empty': Kind(WARNING, 'annotations', 'boxes less than a pixel wide or high, which mmdet leaves out'),
    'box_outside': Kind(WARNING, 'annotations', 'boxes outside their image, which mmdet leaves out'),
    'box_beyond': Kind(NOTE, 'annotations', 'boxes that reach more than a pixel beyond their image'),
    'boxes_beyond': Kind(
        ERROR,
        'annotations',
        "boxes beyond their image; all fit as x1, y1, x2, y2, but COCO's are x, y, width, height",
    ),
    'area': Kind(ERROR, 'annotations', 'annotations whose area is absent or no finite number'),
    'area_empty': Kind(WARNING, 'annotations', 'annotations of area 0 or less, which mmdet leaves out'),
    'iscrowd': Kind(ERROR, 'annotations', 'annotations whose iscrowd is absent or not 0 or 1'),
    'mask_absent': Kind(ERROR, 'annotations', 'annotations without a segmentation, which the masks need'),
    'mask_form': Kind(ERROR, 'annotations', 'segmentations that are neither polygons of numbers nor an RLE'),
    'mask_points': Kind(
        ERROR, 'annotations', 'segmentations whose polygons have all fewer than 6 or an odd number of coordinates'
    ),
    'mask_part': Kind(NOTE, 'annotations', 'segmentations with a part of fewer than 6 or an odd number of coordinates'),
    'mask_rle': Kind(ERROR, 'annotations', 'segmentations whose RLE is invalid or not of the size of the image'),
    'crowd': Kind(NOTE, 'annotations', 'crowd regions, which are ignored'),
    'nothing_left': Kind(ERROR, 'annotations', 'no object that could be learned or evaluated'),
}
SINGULAR = dict(images='image', categories='category', annotations='annotation')
COMPLETED = {'image_unsized', 'annotation_id', 'area', 'iscrowd'}  # by a repair, which keeps the entry
MERGED = {'category_name_twice'}  # by a repair, which keeps the annotations
BEYOND_REPAIR = {'boxes_beyond', 'nothing_left'}  # of the whole file


@dataclass
class Problem:
    """Entries of one kind.

    Args:
        kind: A key of ``KINDS``.
        positions: The entries, counted from 0 in their list.
        details: What to say of an entry beside its kind, by position.
    """

    kind: str
    positions: list[int]
    details: dict[int, str] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """``'error'``, ``'warning'`` or ``'note'``."""
        return KINDS[self.kind].level

    @property
    def entries(self) -> str:
        """``'images'``, ``'categories'`` or ``'annotations'``."""
        return KINDS[self.kind].entries

    @property
    def text(self) -> str:
        """What it is, as a plural."""
        return KINDS[self.kind].text

    def describe(self, content: dict[str, Any], position: int) -> str:
        """One entry, by its id, its image or name, and what is special about it."""
        detail = self.details.get(position)
        return describe(content, self.entries, position) + (f': {printable(detail)}' if detail else '')

    def sentence(self, path: str, content: dict[str, Any]) -> str:
        """The problem as one sentence about the file at ``path``, with its first entry."""
        if self.kind == 'nothing_left':
            return f'{path} has {self.text}'
        first = self.describe(content, self.positions[0])
        of = f'{len(self.positions):,} of the {len(content[self.entries]):,} {self.entries}'
        return f'{path} has {self.text} ({of}, the first is {first})'


def describe(content: dict[str, Any], entries: str, position: int) -> str:
    """Name an entry of the file, whatever it is."""
    entry = content[entries][position]
    if not isinstance(entry, dict):
        return f'{entries}[{position}] = {SHORT.repr(entry)}'
    name = f'{SINGULAR[entries]} {SHORT.repr(entry["id"])}' if 'id' in entry else f'{entries}[{position}]'
    keys = ('file_name', 'name', 'image_id', 'category_id', 'bbox')
    more = ', '.join(f'{key} {SHORT.repr(entry[key])}' for key in keys if key in entry)
    return f'{name} ({more})' if more else name


def printable(text: str) -> str:
    """A name as a terminal and a figure take it: JSON can hold halves of characters."""
    return text if text.isprintable() else ascii(text)


def worst(problems: Iterable[Problem]) -> Problem | None:
    """The first error, or ``None``."""
    return next((problem for problem in problems if problem.level == ERROR), None)
