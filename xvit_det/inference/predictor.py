"""A trained model together with the preprocessing of its config."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload
from weakref import WeakKeyDictionary

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import TRANSFORMS
from torch import Tensor

from xvit_det.config.data_paths import inference_pipeline, without_resizing
from xvit_det.errors import InputError
from xvit_det.image_files import check_file
from xvit_det.inference.images import read_image
from xvit_det.inference.results import Prediction

# A model's settings are changed while it predicts, so that another thread has to wait.
_LOCKS: WeakKeyDictionary[BaseModel, threading.Lock] = WeakKeyDictionary()
TASKS = {'mmseg': 'segmentation', 'mmpretrain': 'classification'}  # of OpenMMLab's packages; others detect


class Predictor:
    """Images in, predictions out, as ``xvit-det test`` computes them.

    Args:
        model: A detector, classifier or segmentor of OpenMMLab in evaluation mode.
        cfg: Its config. Images are prepared by the pipeline of its test data.
        classes: Names of its classes.
        full_size: Leave out the resizing.

    Raises:
        InputError: The config has no pipeline for test images.
    """

    def __init__(self, model: BaseModel, cfg: Config, classes: Sequence[str], full_size: bool = False) -> None:
        self.model = model
        self.cfg = cfg
        self.classes = classes
        scope = cfg.get('default_scope')
        pipeline = inference_pipeline(cfg)
        if full_size:
            pipeline = without_resizing(pipeline)
        self.pipeline = pipeline
        steps = [TRANSFORMS.build({**step, '_scope_': scope}) for step in pipeline]
        names = [type(step).__name__ for step in steps]
        first = next((i for i, name in enumerate(names) if name.startswith('LoadImage')), None)
        self._load = None if first is None else steps[first]
        self._prepare = Compose(steps if first is None else steps[first + 1 :])

    @property
    def task(self) -> str:
        """``'detection'``, ``'segmentation'`` or ``'classification'``."""
        return TASKS.get(self.cfg.get('default_scope'), 'detection')

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def takes_rgb(self) -> bool:
        """Whether the pipeline starts from RGB: that of a dataset without files, such as CIFAR-10. Others read BGR."""
        return self._load is None

    @overload
    def predict(
        self, images: list | tuple, *, score: float = ..., top_k: int = ..., batch_size: int = ...
    ) -> list[Prediction]: ...
    @overload
    def predict(self, images: Any, *, score: float = ..., top_k: int = ..., batch_size: int = ...) -> Prediction: ...
    def predict(
        self, images: Any, *, score: float = 0.3, top_k: int = 5, batch_size: int = 1
    ) -> Prediction | list[Prediction]:
        """Predict an image, or a list of images.

        Args:
            images: A path, an array (H, W, 3) in BGR as OpenCV has it, an image of Pillow, a tensor (3, H, W) in RGB,
                see :func:`xvit_det.inference.images.read_image`; or a list of them.
            score: Objects below it are left out.
            top_k: How many classes a classifier names.
            batch_size: Images that the model gets at once, where they have the same size.

        Returns:
            A :class:`Prediction`, or a list of them.

        Raises:
            InputError: An image cannot be read or is too small for the model, or a number is out of its range.
        """
        if not 0 <= score <= 1:
            raise InputError(f'score is from 0 to 1, not {score}')
        if top_k < 1 or batch_size < 1:
            raise InputError(f'top_k and batch_size are at least 1, not {top_k} and {batch_size}')
        several = isinstance(images, list | tuple)
        queue = list(images) if several else [images]
        found: list[Prediction] = []
        for start in range(0, len(queue), batch_size):
            batch = queue[start : start + batch_size]
            found += self.predict_prepared([self.prepare(image) for image in batch], batch, score=score, top_k=top_k)
        return found if several else found[0]

    def prepare(self, image: Any) -> dict[str, Any]:
        """An image as the model takes it: ``inputs`` and ``data_samples``.

        Args:
            image: As for :meth:`predict`, one.

        Raises:
            InputError: It cannot be read, or the config's pipeline cannot prepare it.
        """
        is_file = isinstance(image, str | os.PathLike)
        name = os.fspath(image) if is_file else 'the image'
        data: dict[str, Any] = dict(img_id=0, img_path=name)
        try:
            if is_file and self._load is not None:
                check_file(name)
                data = self._load(data)  # the config may choose how
            else:
                pixels = read_image(image)
                if self._load is None:  # datasets without files, such as CIFAR-10, have RGB
                    pixels = np.ascontiguousarray(pixels[..., ::-1])
                elif getattr(self._load, 'to_float32', False):
                    pixels = pixels.astype(np.float32)
                data.update(img=pixels, img_shape=pixels.shape[:2], ori_shape=pixels.shape[:2])
            size = data['ori_shape']
            prepared = self._prepare(data)
        except InputError:
            raise
        except Exception as error:  # each library that works on images has exceptions of its own
            size = ' x '.join(str(side) for side in reversed(data.get('ori_shape', ())))
            reason = (str(error).splitlines() or [''])[0]
            raise InputError(f'{name} ({size or "unknown"} pixels) cannot be prepared: {reason}') from error
        prepared['data_samples'].set_metainfo(dict(ori_shape=size))  # which a pipeline may leave out
        return prepared

    def predict_prepared(
        self, prepared: list[dict[str, Any]], images: Sequence[Any], *, score: float = 0.3, top_k: int = 5
    ) -> list[Prediction]:
        """:meth:`predict` of images that :meth:`prepare` has prepared, in one batch for each size."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, data in enumerate(prepared):
            by_size.setdefault(self._size(data), []).append(i)
        found: list[Any] = [None] * len(prepared)
        for numbers in by_size.values():  # together they would be padded, which changes what is found
            batch = self._predict_batch([prepared[i] for i in numbers], [images[i] for i in numbers], score, top_k)
            for i, prediction in zip(numbers, batch, strict=True):
                found[i] = prediction
        return found

    def _size(self, data: dict[str, Any]) -> tuple[int, ...]:
        """What images that are predicted together have in common."""
        return tuple(data['inputs'].shape)

    @torch.no_grad()
    def _predict_batch(
        self, prepared: list[dict[str, Any]], images: Sequence[Any], score: float, top_k: int
    ) -> list[Prediction]:
        self.model.eval()  # somebody may have trained it in between
        with no_work_below(self.model, score):
            samples = self.model.test_step(pseudo_collate(prepared))
        return [self._convert(*pair, score=score, top_k=top_k) for pair in zip(samples, images, strict=True)]

    def _convert(self, sample: Any, image: Any, score: float, top_k: int) -> Prediction:
        common: dict[str, Any] = dict(classes=self.classes, size=tuple(sample.ori_shape), image=image)
        if 'pred_instances' in sample:
            objects = sample.pred_instances
            objects = objects[objects.scores >= score]
            boxes = _array(getattr(objects.bboxes, 'tensor', objects.bboxes))
            masks = _array(objects.masks).astype(bool) if 'masks' in objects else None
            return Prediction(_array(objects.labels), _array(objects.scores), boxes=boxes, masks=masks, **common)
        if 'pred_score' in sample:
            best = sample.pred_score.topk(min(top_k, len(sample.pred_score)))
            return Prediction(_array(best.indices), _array(best.values), **common)
        if 'pred_sem_seg' in sample:
            return Prediction.of_label_map(_array(sample.pred_sem_seg.data[0]), **common)  # (1, H, W) -> (H, W)
        raise InputError(f'{type(self.model).__name__} predicts neither boxes nor classes nor label maps')


@contextmanager
def no_work_below(model: BaseModel, score: float) -> Iterator[None]:
    """Let a detector with heads for regions drop objects below a score before it computes their masks.

    What is left is the same up to rounding: non-maximum suppression never lets a box remove one with a higher score.
    """
    cfg = getattr(getattr(model, 'roi_head', None), 'test_cfg', None) or {}
    if 'score_thr' not in cfg:
        yield
        return
    with _LOCKS.setdefault(model, threading.Lock()):
        before = cfg['score_thr']
        cfg['score_thr'] = max(before, score * (1 - 1e-6))  # mmdet keeps what is above, we what is not below
        try:
            yield
        finally:
            cfg['score_thr'] = before


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
