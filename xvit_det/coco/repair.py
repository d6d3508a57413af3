"""An annotation file without its faults: what is known is completed or merged, the rest is left out."""

import os
from itertools import count
from typing import Any, NamedTuple

from xvit_det.coco.check import check_entries, file_of, is_id, is_length
from xvit_det.coco.files import size_fault
from xvit_det.coco.problems import BEYOND_REPAIR, COMPLETED, MERGED, NOTE, SINGULAR, Problem
from xvit_det.errors import InputError
from xvit_det.image_files import loaded_size

Content = dict[str, Any]
Change = tuple[Content, list[str]]  # the new content, and a line for each entry that is another


class Images(NamedTuple):
    """Where sizes can be read that a file lacks: the folder of its images, and ``by_url`` of ``check.file_of``."""

    folder: str
    by_url: bool = False


def repair(content: Content, broken: list[Problem], images: Images | None = None, **needs: bool) -> Change:
    """Complete, merge or leave out the entries with errors or warnings.

    An annotation gets an id, the area of its box, or ``iscrowd`` 0; an image gets the size of its file; categories of
    one name become one. Everything else is left out, with the annotations of images and categories that are left out.

    Args:
        content: From :func:`xvit_det.coco.reading.read_annotations`; it stays as it is.
        broken: Problems of the image files, from :mod:`xvit_det.coco.files`.
        images: For sizes; ``None``: images without a size are left out.
        **needs: As for :func:`xvit_det.coco.check.check_entries`.

    Returns:
        The new content, in which no error or warning is found, and a line for each change.

    Raises:
        InputError: No object would be left, or the file has an error that concerns all of it.
    """
    lines: list[str] = []
    problems = broken or check_entries(content, **needs)
    while faults := [problem for problem in problems if problem.level != NOTE]:
        changing = [problem for problem in faults if problem.kind not in BEYOND_REPAIR]
        if not changing:
            raise InputError(f'this cannot be repaired by leaving out entries: {faults[0].text}')
        turn = min(map(_turn, changing))
        now = [problem for problem in changing if _turn(problem) == turn]
        if now[0].kind in COMPLETED:
            content, changes = _complete(content, now, images)
        else:
            content, changes = (_merge if now[0].kind in MERGED else _leave_out)(content, now)
        lines += changes
        problems = check_entries(content, **needs)
    return content, lines


def _turn(problem: Problem) -> tuple[int, bool, bool]:
    """When a problem is dealt with: what is sound in a list depends on the lists before, and on what is left of it."""
    return [*SINGULAR].index(problem.entries), problem.kind in COMPLETED, problem.kind in MERGED


def _leave_out(content: Content, problems: list[Problem]) -> Change:
    entries = problems[0].entries
    gone = {position for problem in problems for position in problem.positions}
    kept = [entry for position, entry in enumerate(content[entries]) if position not in gone]
    lines = []
    for problem in problems:
        is_twice = problem.kind in ('image_id_twice', 'category_id_twice')
        ids = {entry['id'] for entry in kept} if is_twice else set()
        for position in problem.positions:
            stays = is_twice and content[entries][position]['id'] in ids
            why = 'the first one stays' if stays else 'its annotations could be of either' if is_twice else ''
            lines.append(_line('removed', content, problem, position, why))
    return content | {entries: kept}, lines


def _complete(content: Content, problems: list[Problem], images: Images | None) -> Change:
    entries = problems[0].entries
    completed: list[Any] = [*content[entries]]
    numbers = [entry['id'] for entry in completed if isinstance(entry.get('id'), int | float)]
    unused = count(int(max((number for number in numbers if abs(number) < float('inf')), default=0)) + 1)
    lines = []
    for problem in problems:
        for position in problem.positions:
            entry = completed[position]
            try:
                if problem.kind == 'annotation_id':
                    values = dict(id=next(unused))
                elif problem.kind == 'area':
                    values = dict(area=entry['bbox'][2] * entry['bbox'][3])
                elif problem.kind == 'iscrowd':
                    values = dict(iscrowd=int(bool(entry.get('iscrowd'))))
                else:
                    values = _size(entry, images)
            except InputError as error:
                completed[position] = None
                lines.append(_line('removed', content, problem, position, str(error)))
            else:
                completed[position] = entry | values
                told = ', '.join(f'{key} {value}' for key, value in values.items())
                lines.append(_line('completed', content, problem, position, told))
    return content | {entries: [entry for entry in completed if entry is not None]}, lines


def _size(image: dict[str, Any], images: Images | None) -> dict[str, int]:
    """Width and height of an image's file.

    Raises:
        InputError: It is not looked at, cannot be read, or is not what the one that is annotated was measured on.
    """
    if images is None:
        raise InputError('its file is not looked at')
    loaded = loaded_size(os.path.join(images.folder, str(file_of(image, images.by_url))))
    for annotated, length in zip((image.get('width'), image.get('height')), loaded, strict=True):
        if is_length(annotated) and annotated != length:
            raise InputError(size_fault(loaded, (image.get('width', '?'), image.get('height', '?'))))
    return dict(width=loaded[0], height=loaded[1])


def _merge(content: Content, problems: list[Problem]) -> Change:
    """Annotations of a category go to the first of its name."""
    (problem,) = problems
    first: dict[str, Any] = {}
    for category in content['categories']:
        first.setdefault(category['name'], category['id'])
    into = {category['id']: first[category['name']] for category in content['categories']}
    lines = [
        _line('merged', content, problem, p, f'its annotations go to category {into[content["categories"][p]["id"]]!r}')
        for p in problem.positions
    ]
    kept = [c for position, c in enumerate(content['categories']) if position not in {*problem.positions}]
    annotations = [
        a | dict(category_id=into[a['category_id']]) if _is_of(a, into) else a for a in content.get('annotations', [])
    ]
    return content | dict(categories=kept, annotations=annotations), lines


def _is_of(annotation: Any, categories: dict[Any, Any]) -> bool:
    return (
        isinstance(annotation, dict)
        and is_id(annotation.get('category_id'))
        and annotation['category_id'] in categories
    )


def _line(change: str, content: Content, problem: Problem, position: int, why: str) -> str:
    told = problem.describe(content, position)
    return f'{change}: {told}{"; " if why else ""}{why} [{problem.text}]'
