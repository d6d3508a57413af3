"""What ``xvit-det predict`` does: predict, draw, and record what was found."""

import json
import os
import sys
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from xvit_det.errors import InputError
from xvit_det.inference import Prediction, Predictor, predict_tiles
from xvit_det.inference.results import import_supervision
from xvit_det.inference.sources import Video, common_folder
from xvit_det.inference.tracking import Tracker
from xvit_det.screen import screen

RESULTS = 'predictions.json'
LABEL_MAPS = 'label_maps'
FIRST_SECONDS, LINE_SECONDS = 4, 20  # before and between lines of progress where the screen is no terminal


def predict_images(model: Predictor, paths: Sequence[Path], args: Namespace) -> 'Record':
    """Draw every image into ``args.out``, in the folders that it has in its own.

    Args:
        model: As loaded.
        paths: Image files.
        args: The command's.

    Raises:
        InputError: A drawn image would replace the image.
    """
    root = common_folder(paths)
    targets = {path: args.out / Path(os.path.abspath(path)).relative_to(root) for path in paths}
    if replaced := next((path for path, target in targets.items() if target.resolve() == path.resolve()), None):
        raise InputError(f'--out: {args.out} is the folder of {replaced}, which the drawn image would replace')
    record = Record(model)
    with record.finally_written(args.out), _progress(len(paths), 'images') as advance:
        for prediction in _predictions(model, paths, args, record.skip, advance):
            target = targets[prediction.image]
            target.parent.mkdir(parents=True, exist_ok=True)
            prediction.draw().save(target, quality=92, compress_level=1)
            if prediction.label_map is not None:
                _save_label_map(prediction.label_map, args.out / LABEL_MAPS / target.relative_to(args.out))
            record.add(prediction, file_name=target.relative_to(args.out).as_posix())
    if record.skipped:
        record.problem = f'{record.skipped} of {len(paths)} images could not be read, see above'
    return record


def _save_label_map(label_map: np.ndarray, path: Path) -> None:
    """Write a label map as a grey PNG file, with the name of its image: the class numbers from 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = np.uint8 if label_map.max() < 256 else np.uint16
    Image.fromarray(label_map.astype(depth)).save(path.with_name(f'{path.name}.png'))


def predict_video(model: Predictor, video: Video, args: Namespace) -> 'Record':
    """Draw a video with the same size and frame rate into ``args.out``; a camera until it is interrupted.

    Args: as :func:`predict_images`.

    Raises:
        InputError: The drawn video would replace the video, or cannot be written.
    """
    target = args.out / f'{Path(video.name.replace(" ", "_")).stem}.mp4'
    if target.exists() and not video.is_camera and target.samefile(video.name):
        raise InputError(f'--out: {args.out} is the folder of {video.name}, which the drawn video would replace')
    supervision = import_supervision()
    info = supervision.VideoInfo(video.width, video.height, video.fps)
    tracker = Tracker(video.fps) if args.tracks else None
    record = Record(model, 'frames')
    with ExitStack() as stack:
        try:
            sink = stack.enter_context(supervision.VideoSink(str(target), info))
        except RuntimeError as error:
            raise InputError(f'{target} cannot be written: {error}') from error
        stack.enter_context(record.finally_written(args.out))
        advance = stack.enter_context(_progress(video.length, 'frames'))
        for number, prediction in enumerate(_predictions(model, video, args, record.skip, advance)):
            if tracker and prediction.boxes is not None:
                prediction = tracker.update(prediction)
            sink.write_frame(np.asarray(prediction.draw(enlarge=False))[..., ::-1])
            record.add(prediction, file_name=target.name, frame=number)
    done = len(record.images)
    # OpenCV takes a break for the end. The length that a file states may be an estimate.
    if video.length and done < 0.95 * video.length and not record.stopped:
        record.problem = f'{video.name} is damaged: {done} of its {video.length} frames could be read'
    return record


def _predictions(
    model: Predictor,
    images: Iterable[Any],
    args: Namespace,
    skip: Callable[[InputError], None],
    advance: Callable[[], None],
) -> Iterator[Prediction]:
    """Predict in batches, or in tiles; an image that cannot be read is skipped."""
    queue = iter(images)
    if args.tiles:
        for image in queue:
            try:
                yield predict_tiles(model, image, args.tiles, args.overlap, score=args.score)
            except InputError as error:
                skip(error)
            advance()
    while batch := list(islice(queue, args.batch_size)):
        predictions = _predict_batch(model, batch, args, skip)
        for prediction in predictions:
            yield prediction
            advance()
        for _ in batch[len(predictions) :]:
            advance()


def _predict_batch(
    model: Predictor, batch: list[Any], args: Namespace, skip: Callable[[InputError], None]
) -> list[Prediction]:
    """Predict a batch without the images that cannot be read, or that the model cannot take."""
    prepared, kept = [], []
    for image in batch:
        try:
            prepared.append(model.prepare(image))
            kept.append(image)
        except InputError as error:
            skip(error)
    if not kept:
        return []
    try:
        return model.predict_prepared(prepared, kept, score=args.score, top_k=args.top_k)
    except InputError as error:
        if len(kept) > 1:  # which one was it?
            return [prediction for image in kept for prediction in _predict_batch(model, [image], args, skip)]
        skip(InputError(f'{kept[0]}: {error}') if isinstance(kept[0], Path) else error)
        return []


class Record:
    """What was found in all images, for ``predictions.json`` and the table on the screen.

    Args:
        model: Whose classes are counted.
        unit: What the images are called.
    """

    def __init__(self, model: Predictor, unit: str = 'images') -> None:
        self.model = model
        self.unit = unit
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.skipped = 0
        self.problem = ''  # what is wrong with the source, at the end
        self.scores: dict[str, list[float]] = defaultdict(list)  # of each object, by class
        self.seen_in: dict[str, int] = defaultdict(int)  # number of images, by class
        self.score_name = 'score'
        self.stopped = False
        self.start = time.monotonic()

    def skip(self, error: InputError) -> None:
        """Report an image that cannot be read, and go on."""
        print(f'skipped: {error}', file=sys.stderr, flush=True)
        self.skipped += 1

    def add(self, prediction: Prediction, **image: Any) -> None:
        """Keep what was found in an image.

        Args:
            prediction: Of the image.
            **image: What else to write about it, such as ``file_name``.
        """
        height, width = prediction.size
        number = len(self.images) + 1
        image = dict(id=number, **image, width=width, height=height)
        counted = len(prediction)
        if prediction.boxes is None and prediction.label_map is None:
            pairs = zip(prediction.names, prediction.scores.tolist(), strict=True)
            image['classes'] = [dict(name=name, score=score) for name, score in pairs]
            counted = 1  # the best one
        else:
            for row in prediction.to_coco(number):
                self.annotations.append(dict(id=len(self.annotations) + 1, iscrowd=0) | row)
        if prediction.label_map is not None:
            self.score_name = 'share'
        self.images.append(image)
        for name, score in zip(prediction.names[:counted], prediction.scores.tolist(), strict=False):
            self.scores[name].append(score)
        for name in {*prediction.names[:counted]}:
            self.seen_in[name] += 1

    def to_json(self) -> str:
        """What is in ``predictions.json``: a COCO file."""
        categories = [dict(id=i, name=name) for i, name in enumerate(self.model.classes, start=1)]
        return json.dumps(dict(images=self.images, categories=categories, annotations=self.annotations)) + '\n'

    @contextmanager
    def finally_written(self, folder: Path) -> Iterator[None]:
        """Write ``predictions.json`` at the end, also of what was done when the user interrupts."""
        try:
            yield
        except KeyboardInterrupt:
            self.stopped = True
            print('Stopped.', file=sys.stderr)
        self.seconds = time.monotonic() - self.start
        (folder / RESULTS).write_text(self.to_json())

    def print_summary(self, folder: Path) -> None:
        """The table of classes, the speed, and where everything is."""
        if not self.images:
            return
        table = Table('class')
        for column in ('found', self.unit, f'mean {self.score_name}'):
            table.add_column(column, justify='right')
        for name, scores in sorted(self.scores.items(), key=lambda item: (-len(item[1]), item[0])):
            table.add_row(name, str(len(scores)), str(self.seen_in[name]), f'{np.mean(scores):.3f}')
        if self.scores:
            screen(100).print(table)
        else:
            print('Nothing was found; a lower --score shows what the model is less sure of.')
        number, unit = len(self.images), self.unit
        speed = f'{number / self.seconds:.1f} {unit}/s on {self.model.device}'
        print(f'{number} {unit} in {self.seconds:.1f} s: {speed}')
        print(f'Drawn: {folder}\nPredictions: {folder / RESULTS}')


@contextmanager
def _progress(total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    """A live line on a terminal, otherwise a line now and then; gives the function to call after each image."""
    console = Console()
    if not console.is_terminal:
        yield _Lines(total, unit).advance
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[speed]}'), TextColumn('left'))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        bar = progress.add_task('', total=total, speed='')

        def advance() -> None:
            progress.advance(bar)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed or 0
            progress.update(bar, speed=f'{speed:.1f} {unit}/s')

        yield advance


class _Lines:
    """Progress as lines, for files and pipes."""

    def __init__(self, total: int | None, unit: str) -> None:
        self.total, self.unit = total, unit
        self.done = 0
        self.start = self.latest = time.monotonic()

    def advance(self) -> None:
        self.done += 1
        now = time.monotonic()
        wait = min(FIRST_SECONDS, LINE_SECONDS) if self.latest == self.start else LINE_SECONDS
        if now - self.latest < wait:
            return
        self.latest = now
        speed = self.done / (now - self.start)
        text = f'{self.done} {self.unit}, {speed:.1f} {self.unit}/s'
        if self.total:
            seconds = int((self.total - self.done) / speed)
            text = f'{self.done} of {self.total} {self.unit}, {speed:.1f} {self.unit}/s, '
            text += f'{seconds // 60}:{seconds % 60:02d} left'
        print(text, flush=True)
