"""Read an annotation file as pycocotools will, or say in one sentence why that cannot be."""

import codecs
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xvit_det.errors import InputError
from xvit_det.stages import stage

LARGE = 100_000_000  # bytes, which take 2 s or more


@contextmanager
def no_collection() -> Iterator[None]:
    """Without Python's garbage collector, which would go through millions of new objects again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def read_annotations(path: str | Path) -> dict[str, Any]:
    """The content of an annotation file: an object with lists of ``images`` and ``categories``, mostly ``annotations``.

    Raises:
        InputError: It is no file, no JSON in UTF-8, or not of this form.
    """
    try:
        data = Path(path).read_bytes()
        if len(data) > LARGE:
            stage(f'Reading {path} ({len(data) / 1e6:.0f} MB)', at_once=True)
    except OSError as error:
        raise InputError(f'annotation file {path} cannot be read: {error.strerror}') from None
    if data.startswith(codecs.BOM_UTF8):
        raise InputError(f'{path} starts with a byte-order mark, which pycocotools cannot read; save it without one')
    try:
        with no_collection():
            content = json.loads(data.decode())
    except RecursionError:
        raise InputError(f'{path} is not in COCO format: its lists are nested too deeply') from None
    except ValueError as error:
        raise InputError(f'{path} is not a JSON file: {error}') from None
    if not isinstance(content, dict):
        raise InputError(
            f'{path} is not in COCO format: it holds {_json_type(content)} instead of an object with images, '
            'annotations and categories'
        )
    absent = [key for key in ('images', 'categories') if key not in content]
    if absent:
        raise InputError(f'{path} is not in COCO format: it has no {" and no ".join(absent)}')
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content.get(key, []), list):
            raise InputError(f'{path} is not in COCO format: its {key} are {_json_type(content[key])}, not a list')
    return content


def _json_type(value: Any) -> str:
    names = {dict: 'an object', list: 'a list', str: 'a text', bool: 'a truth value', type(None): 'null'}
    return names.get(type(value), 'a number')
