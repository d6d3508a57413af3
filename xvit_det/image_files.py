"""Image files on disk: whether they are whole, and how large they are once loaded."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from xvit_det.errors import InputError

ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 exchange width and height
TURNED = ('JPEG', 'MPO', 'PNG')  # formats that OpenCV, and so mmcv, turns as EXIF says; TIFF is turned by Pillow, too

JPEG, JPEG_SCAN, JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
PNG, PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'  # the last chunk with its checksum


def check_file(path: str | os.PathLike) -> None:
    """Make sure that a file is a whole image.

    Raises:
        InputError: It does not exist, is no image, is damaged, or has more pixels than Pillow allows.
    """
    with _opened(path) as image:
        image.draft('RGB', (1, 1))  # JPEG is checked at an eighth of its size, which is faster
        image.load()
    check_end(path)


def check_end(path: str | os.PathLike) -> None:
    """Make sure that a JPEG or PNG file has the mark that ends it, which takes no decoding.

    Decoders make grey of what lacks: OpenCV does of a truncated JPEG on a disk, and of one whose rest is zeros, as an
    interrupted download leaves it, in memory, too. Data behind the mark is legal.

    Raises:
        InputError: It has none.
        OSError: It cannot be read.
    """
    if not _has_end(Path(path).read_bytes()):
        raise InputError(f'{path} cannot be read as an image: it is truncated, without the mark that ends it')


def _has_end(data: bytes) -> bool:
    if data.startswith(PNG):
        return PNG_END in data
    position = len(JPEG)
    # Segments with their lengths, up to the first scan: a preview in the EXIF data has an end of its own.
    while data.startswith(JPEG) and data.startswith(b'\xff', position):
        if data.startswith(JPEG_SCAN, position):
            return data.rfind(JPEG_END, position) != -1  # in a scan, 0 follows 0xff
        position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')
    return True  # of another format


def loaded_size(path: str | os.PathLike) -> tuple[int, int]:
    """Width and height of an image as mmcv's ``LoadImageFromFile`` loads it; only the file's header is read.

    Raises:
        InputError: As :func:`check_file`, as far as the header shows it.
    """
    with _opened(path) as image:
        width, height = image.size
        turned = image.format in TURNED and _orientation(image) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # Pillow raises many kinds for damaged EXIF data, which OpenCV ignores
        return None


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """The image; what Pillow raises while it is in use becomes an :class:`InputError` that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about strange metadata, and large images below the limit
            with Image.open(path) as image:
                yield image
    except FileNotFoundError:
        raise InputError(f'{path} does not exist') from None
    except Image.DecompressionBombError as error:
        raise InputError(
            f'{path} is too large: {error}; if you trust the file, allow more with --max-pixels N, or in Python with '
            'PIL.Image.MAX_IMAGE_PIXELS = N // 2'
        ) from error
    except Image.UnidentifiedImageError:
        what = 'it is empty' if Path(path).stat().st_size == 0 else 'it is of no image format'
        raise InputError(f'{path} cannot be read as an image: {what}') from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:  # SyntaxError: of a damaged PNG
        reason = getattr(error, 'strerror', None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f'{path} cannot be read as an image: {reason}') from None
