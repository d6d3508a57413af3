"""Where images come from: files, folders, patterns, a video or a camera."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from xvit_det.datasets.images import EXTENSIONS
from xvit_det.errors import InputError

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')


def find_images(sources: Sequence[str], leave_out: Path | None = None) -> list[Path]:
    """The images that files, folders and patterns stand for, without duplicates.

    Args:
        sources: Each a file, a folder, which counts with the folders in it, or a pattern such as ``'photos/*.jpg'``.
        leave_out: A folder whose files do not count.

    Raises:
        InputError: One does not exist, holds no images, is of another kind, or cannot be read.
    """
    found: dict[Path, Path] = {}  # where a path leads, and how it was given first
    for source in sources:
        if os.path.isdir(source):
            paths = [path for path in _walk(source) if path.suffix.lower() in EXTENSIONS]
            if not paths:
                raise InputError(f'{source} and the folders in it hold no images ({", ".join(EXTENSIONS)})')
            if leave_out is not None:
                paths = [path for path in paths if not path.resolve().is_relative_to(leave_out.resolve())]
            if not paths:
                raise InputError(f'all images of {source} are in the folder for results, {leave_out}; choose another')
        elif os.path.exists(source):
            paths = [Path(source)]
        else:
            paths = [Path(path) for path in sorted(glob.glob(source, recursive=True)) if os.path.isfile(path)]
            if not paths:
                raise InputError(
                    f'{source!r} is not a file, a folder, a pattern that matches files or the number of a camera'
                )
        for path in paths:
            if path.suffix.lower() not in EXTENSIONS:
                raise InputError(
                    f'{path} ends neither as images do ({", ".join(EXTENSIONS)}) nor as videos ({", ".join(VIDEOS)}); '
                    'a video is given alone'
                )
        for path in paths:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _walk(folder: str) -> list[Path]:
    """All files in a folder and those inside it, sorted; one that cannot be listed is an error."""

    def stop(error: OSError) -> None:
        raise InputError(f'{error.filename} cannot be read: {error.strerror}') from error

    return sorted(Path(parent, name) for parent, _, names in os.walk(folder, onerror=stop) for name in names)


def common_folder(paths: Sequence[Path]) -> Path:
    """The folder below which all files are."""
    return Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))


class Video:
    """The frames of a video file or a camera: iterating gives arrays (H, W, 3) in BGR.

    Args:
        source: A file, or the number of a camera as text.

    Raises:
        InputError: It cannot be opened or has no frame.
    """

    def __init__(self, source: str) -> None:
        cv2.setLogLevel(0)  # one sentence instead of OpenCV's many
        self.is_camera = source.isdigit()
        self.name = f'camera {source}' if self.is_camera else source
        self._capture = cv2.VideoCapture(int(source) if self.is_camera else source)
        opened, first = self._capture.read()
        if not opened:
            reasons = ('it is missing, empty or damaged', 'there is none, or another program uses it')
            raise InputError(f'{self.name} cannot be read: {reasons[self.is_camera]}')
        self._first: np.ndarray = first
        self.height, self.width = first.shape[:2]
        self.fps: float = self._capture.get(cv2.CAP_PROP_FPS) or 30.0
        # What a file says of itself; it may hold fewer.
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length = count if count > 0 and not self.is_camera else None

    @staticmethod
    def is_one(source: str) -> bool:
        """Whether a source is a video file by its ending, or the number of a camera."""
        return Path(source).suffix.lower() in VIDEOS or (source.isdigit() and not os.path.exists(source))

    def __iter__(self) -> Iterator[np.ndarray]:
        frame, more = self._first, True
        while more:
            yield frame
            more, frame = self._capture.read()
        self._capture.release()
