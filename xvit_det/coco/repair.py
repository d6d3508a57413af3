"""An annotation file without its bad entries."""

from typing import Any

from xvit_det.coco.check import check_entries
from xvit_det.coco.problems import BEYOND_REPAIR, COMPLETED, NOTE, Problem
from xvit_det.errors import InputError


def repair(content: dict[str, Any], broken: list[Problem], **needs: bool) -> tuple[dict[str, Any], list[str]]:
    """Leave out the entries with errors or warnings, and the annotations of images and categories that are left out.

    An annotation stays where something can be completed: it gets another id, the area of its box, or ``iscrowd`` 0.

    Args:
        content: From :func:`xvit_det.coco.reading.read_annotations`; it stays as it is.
        broken: Problems of the image files, from :mod:`xvit_det.coco.files`.
        **needs: As for :func:`xvit_det.coco.check.check_entries`.

    Returns:
        The new content, in which no error or warning is found, and a line for each change.

    Raises:
        InputError: No object would be left, or the file has an error that concerns all of it.
    """
    lines: list[str] = []
    problems = [*broken, *check_entries(content, **needs)]
    while faults := [problem for problem in problems if problem.level != NOTE]:
        changing = [problem for problem in faults if problem.kind not in BEYOND_REPAIR]
        if not changing:
            raise InputError(f'this cannot be repaired by leaving out entries: {faults[0].text}')
        for problem in changing:
            change = 'completed' if problem.kind in COMPLETED else 'removed'
            lines += [f'{change}: {problem.describe(content, p)} [{problem.text}]' for p in problem.positions]
        content = _without(_completed(content, changing), changing)
        problems = check_entries(content, **needs)
    return content, lines


def _completed(content: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    annotations = list(content.get('annotations', []))
    numbers = [a['id'] for a in annotations if isinstance(a, dict) and isinstance(a.get('id'), int | float)]
    following = int(max((number for number in numbers if abs(number) < float('inf')), default=0)) + 1
    for problem in problems:
        for position in problem.positions if problem.kind in COMPLETED else ():
            annotation = annotations[position]
            if not isinstance(annotation, dict):
                continue
            if problem.kind == 'annotation_id':
                value, following = following, following + 1
            elif problem.kind == 'area':
                value = annotation['bbox'][2] * annotation['bbox'][3]
            else:
                value = int(bool(annotation.get('iscrowd')))
            annotations[position] = annotation | {{'annotation_id': 'id'}.get(problem.kind, problem.kind): value}
    return content | dict(annotations=annotations)


def _without(content: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    content = dict(content)
    for entries in ('images', 'categories', 'annotations'):
        gone = {p for q in problems if q.entries == entries and q.kind not in COMPLETED for p in q.positions}
        content[entries] = [entry for position, entry in enumerate(content[entries]) if position not in gone]
    return content
