"""Check the images that an annotation file names: there, not empty and, on request, whole and of the annotated size."""

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from xvit_det.coco.check import MOST_PIXELS, file_of, is_length
from xvit_det.coco.problems import Problem
from xvit_det.errors import InputError
from xvit_det.image_files import check_file, loaded_size


def check_listed(content: dict[str, Any], folder: str, by_url: bool = False) -> list[Problem]:
    """Images that do not exist or are empty. Folders are listed once: a look at 118,000 files takes longer.

    Args:
        content: From :func:`xvit_det.coco.reading.read_annotations`.
        folder: What names of files are relative to.
        by_url: As for :func:`xvit_det.coco.check.file_of`.
    """
    listed: dict[str, dict[str, int]] = {}
    missing, empty = Problem('image_missing', []), Problem('image_empty', [])
    for position, path in _paths(content, folder, by_url):
        parent, name = os.path.split(path)
        if parent not in listed:
            listed[parent] = _sizes(parent)
        size = listed[parent].get(name)
        if size == 0:
            empty.positions.append(position)
        elif size is None:
            missing.positions.append(position)
            missing.details[position] = _why_missing(parent, name, listed[parent])
    return [problem for problem in (missing, empty) if problem.positions]


def check_opened(
    content: dict[str, Any],
    folder: str,
    positions: Collection[int],
    *,
    by_url: bool = False,
    whole: bool = True,
    progress: Callable[[Iterable[None], int], Iterable[None]] | None = None,
) -> list[Problem]:
    """Images that cannot be read, or that are loaded in another size than annotated.

    Args:
        content: From :func:`xvit_det.coco.reading.read_annotations`.
        folder: What names of files are relative to.
        positions: Which images.
        by_url: As for :func:`xvit_det.coco.check.file_of`.
        whole: Read all of a file, which finds truncated ones, not just its header.
        progress: Given what will go through the images and their number, shows how far it is.
    """
    chosen = set(positions)
    todo = [item for item in _paths(content, folder, by_url) if item[0] in chosen]
    unreadable, wrong = Problem('image_unreadable', []), Problem('image_size', [])

    def look(item: tuple[int, str]) -> None:
        position, path = item
        image = content['images'][position]
        annotated = image.get('width'), image.get('height')
        try:
            if whole:
                check_file(path)
            loaded = loaded_size(path)
        except InputError as error:
            unreadable.details[position] = str(error)
        else:
            if loaded != annotated and all(map(is_length, annotated)):
                wrong.details[position] = size_fault(loaded, annotated)

    threads = ThreadPoolExecutor()  # Pillow decodes outside Python's lock
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MOST_PIXELS // 2  # Pillow refuses twice as many
    try:
        done = threads.map(look, todo)
        for _ in progress(done, len(todo)) if progress else done:
            pass
    finally:
        threads.shutdown(cancel_futures=True)
        Image.MAX_IMAGE_PIXELS = limit
    for problem in (unreadable, wrong):
        problem.positions = sorted(problem.details)
    return [problem for problem in (unreadable, wrong) if problem.positions]


def size_fault(loaded: tuple[int, int], annotated: tuple[Any, Any]) -> str:
    """How the size (width, height) of a loaded image differs from the annotated one."""
    turned = ': mmcv turns images as EXIF says' if loaded == annotated[::-1] else ''
    return f'it is loaded as {loaded[0]}x{loaded[1]} but annotated as {annotated[0]}x{annotated[1]}{turned}'


def _paths(content: dict[str, Any], folder: str, by_url: bool) -> Iterable[tuple[int, str]]:
    """Position and path of the images that name a file."""
    for position, image in enumerate(content['images']):
        if isinstance(image, dict) and (name := file_of(image, by_url)):
            yield position, os.path.join(folder, name)


def _sizes(folder: str) -> dict[str, int]:
    """The files of a folder with their sizes in bytes; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # a name that no file system takes
        return {}


def _why_missing(folder: str, name: str, listed: dict[str, int]) -> str:
    """Unicode has two spellings of é; a file from macOS often has the other one."""
    for form in ('NFC', 'NFD'):
        if unicodedata.normalize(form, name) in listed:
            return f'{folder} has this name in the other Unicode spelling, {form}'
    return ''
