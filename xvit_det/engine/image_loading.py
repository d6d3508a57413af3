"""Images that cannot be loaded while a model trains: named in one sentence or, on request, replaced by others.

OpenMMLab's step fails with OpenCV's error, which does not name the file, and compares no sizes.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from xvit_det.errors import InputError, LocalError
from xvit_det.image_files import check_end, check_file

MOST_FAILURES = 100  # in a row: the images are gone, not broken


class GuardedLoading:
    """OpenMMLab's ``LoadImageFromFile`` with messages that name the image.

    Args:
        step: The step of the pipeline.
        sized: Whether a sample says the height and width that its annotations are for.
        skipped: Shared by all worker processes, (N,) in bool: where images that cannot be used are marked, instead of
            stopping there. The dataset then takes another one at random.
    """

    def __init__(self, step: Any, sized: bool, skipped: Tensor | None) -> None:
        self.step, self.sized, self.skipped = step, sized, skipped
        self.failures = 0  # in a row, in this process

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any] | None:
        """The sample with its image, or ``None`` for one that is skipped.

        Raises:
            LocalError: The image cannot be loaded, or has another size than annotated.
        """
        try:
            loaded = self._load(sample)
        except InputError as error:
            if self.skipped is None:
                raise LocalError(f'{error}; `xvit-det check-data` finds all images that cannot be used') from error
            self.skipped[sample['sample_idx']] = True
            self.failures += 1
            if self.failures == MOST_FAILURES:
                raise LocalError(f'{MOST_FAILURES} images in a row cannot be used, the last one: {error}') from error
            return None
        self.failures = 0
        return loaded

    def _load(self, sample: dict[str, Any]) -> dict[str, Any] | None:
        path, annotated = str(sample['img_path']), (sample.get('height'), sample.get('width'))
        try:
            loaded = self.step(sample)
        except Exception as error:  # of OpenCV, of mmcv, or of a remote storage
            if '://' not in path:
                check_file(path)  # which says why
            raise InputError(
                f'{path} cannot be loaded: {(str(error).splitlines() or [type(error).__name__])[0]}'
            ) from error
        with suppress(OSError):  # it is no file on a disk here
            check_end(path)
        if self.sized and loaded is not None and (size := loaded['img'].shape[:2]) != annotated:
            turned = ', turned as its EXIF orientation says,' if size == annotated[::-1] else ''
            raise InputError(
                f'{path} is loaded as {size[1]}x{size[0]}{turned} but annotated as {annotated[1]}x{annotated[0]}'
            )
        return loaded

    def __repr__(self) -> str:
        return repr(self.step)


def guard_loading(dataset: Any, marks: dict[Any, Tensor] | None = None) -> None:
    """Guard the steps that load images in a dataset, or in those that it wraps; those that are guarded stay so.

    Args:
        dataset: Of mmengine's ``BaseDataset`` or of its wrappers; of any other nothing changes.
        marks: By dataset, where images that cannot be used are marked, (N,) in bool, instead of stopping there.
            Datasets that it lacks are added.
    """
    from mmcv.transforms import LoadImageFromFile

    for inner in _unwrap(dataset):
        steps = getattr(getattr(inner, 'pipeline', None), 'transforms', [])
        skipped = None
        if marks is not None:
            if inner not in marks:
                marks[inner] = torch.zeros(len(inner), dtype=torch.bool).share_memory_()
            skipped = marks[inner]
        for i, step in enumerate(steps):
            if isinstance(step, LoadImageFromFile):
                steps[i] = GuardedLoading(step, hasattr(inner, 'COCOAPI'), skipped)


def _unwrap(dataset: Any) -> Iterator[Any]:
    inner = [dataset.dataset] if hasattr(dataset, 'dataset') else getattr(dataset, 'datasets', None)
    if inner is None:
        yield dataset
    for child in inner or ():
        yield from _unwrap(child)


class GuardTraining(Hook):
    """Guards the images of training, also those of a pipeline that another hook puts in, as mmdet's
    ``PipelineSwitchHook`` does.

    Logs every image that is skipped, once, and their number at the end.

    Args:
        dataset: Of training.
        skip: Mark images that cannot be used and go on.
    """

    priority = 'VERY_LOW'  # after the hooks that change the pipeline

    def __init__(self, dataset: Any, skip: bool) -> None:
        self.dataset, self.skip = dataset, skip
        self.marks: dict[Any, Tensor] = {}
        self.before_train_epoch()
        self.named = {inner: torch.zeros_like(skipped) for inner, skipped in self.marks.items()}

    def before_train_epoch(self, runner: Runner | None = None) -> None:
        """Before the epoch's worker processes start."""
        guard_loading(self.dataset, self.marks if self.skip else None)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Name the images that were met since the last iteration."""
        for dataset, skipped in self.marks.items():
            for index in (skipped & ~self.named[dataset]).nonzero()[:, 0].tolist():
                self.named[dataset][index] = True
                runner.logger.warning(f'Skipped: {dataset.get_data_info(index)["img_path"]} cannot be used.')

    def after_train(self, runner: Runner) -> None:
        """Count them, as far as this process has met them."""
        if not self.skip:
            return
        self.after_train_iter(runner)
        number = sum(int(named.sum()) for named in self.named.values())
        total = sum(len(named) for named in self.named.values())
        runner.logger.info(f'Skipped {number} of {total} training images that cannot be used.')
