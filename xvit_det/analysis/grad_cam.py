"""Which places of an image a prediction was made from: Grad-CAM and HiResCAM."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xvit_det.analysis.features import FeatureMap, View, record_maps, view
from xvit_det.errors import InputError

if TYPE_CHECKING:
    from xvit_det.inference import Prediction, Predictor


class Explanation(NamedTuple):
    """Where the evidence for one object, class or region is.

    Args:
        name: Of its class.
        score: From 0 to 1.
        box: x1, y1, x2, y2 in pixels of the image, of a detector's.
        gradcam: (h, w) for the image as the model sees it, not negative.
        hirescam: The same.
        size: Height and width in the pixels of ``box``.
    """

    name: str
    score: float
    box: np.ndarray | None
    gradcam: np.ndarray
    hirescam: np.ndarray
    size: tuple[int, int]

    def share_inside(self, cam: np.ndarray, box: np.ndarray | None = None) -> float:
        """The share of a map's sum that lies in a box, by default that of the object."""
        corners = self.box if box is None else box
        assert corners is not None
        (height, width), (h, w) = self.size, cam.shape
        x1, y1, x2, y2 = (round(float(v)) for v in np.asarray(corners) * (2 * [w / width, h / height]))
        return float(cam[max(y1, 0) : y2, max(x1, 0) : x2].sum() / cam.sum())


def gradcam(predictor: 'Predictor', image: Any, detection: int = 0, *, score: float = 0.3) -> Explanation:
    """Explain a prediction by the gradient of its score with respect to the maps of the neck, or of the backbone.

    Grad-CAM (arXiv 1610.02391, equations 1 and 2) weighs channel k by its gradient's mean over the map, and is
    ``ReLU(Σ_k α_k A^k)``. The mean loses where the gradient was: all places with these channels light up, whether they
    belong to the object or not. HiResCAM (arXiv 2011.08891) keeps the gradient at each place,
    ``ReLU(Σ_k ∂y/∂A^k ⊙ A^k)``. Maps of several levels are added.

    y is the score of a detected object, the logit of a class, or a segmentor's mean logit of a class over the region
    where it was found. A classifier that returns no maps is explained by the tokens of its last block that has a
    gradient.

    Args:
        predictor: From :func:`xvit_det.load`, not fused.
        image: As :meth:`xvit_det.inference.Predictor.predict` takes it.
        detection: Number of the object, class or region in the prediction, from 0, best first.
        score: As for :meth:`xvit_det.inference.Predictor.predict`: objects below it do not count.

    Raises:
        InputError: The image cannot be read, there is no such prediction, or no gradient of its score reaches the maps.
    """
    prediction = predictor.predict(image, score=score)
    check_detection(prediction, detection, score)
    seen = view(predictor, image)
    seen.batch['inputs'] = seen.batch['inputs'].detach().requires_grad_()  # a frozen backbone's maps have a graph, too
    for mode in (nullcontext(), _WithoutDetach()):
        with record_maps(predictor.model) as maps, torch.enable_grad(), mode:
            target = _target(predictor, seen, prediction, detection, score)
        if target.requires_grad:
            break
    else:
        raise InputError(f'{type(predictor.model).__name__} computes its scores without a gradient')
    if not maps:
        raise InputError(f'{type(predictor.model.backbone).__name__} returns no maps')
    gradients = torch.autograd.grad(target, [known.output for known in maps], allow_unused=True)
    levels = _last_source([pair for pair in zip(maps, gradients, strict=True) if pair[1] is not None])
    if not levels:
        raise InputError(f'no gradient of the score {prediction.scores[detection]:.3f} reaches a map of the model')
    return Explanation(
        prediction.names[detection],
        float(prediction.scores[detection]),
        None if prediction.boxes is None else prediction.boxes[detection],
        _cam(levels, seen, keep_places=False),
        _cam(levels, seen, keep_places=True),
        seen.size,
    )


class _WithoutDetach(TorchFunctionMode):
    """Within this context ``detach`` does nothing: mmdet's one-stage heads detach the scores that they choose from."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.detach else func(*args, **(kwargs or {}))


def check_detection(prediction: 'Prediction', detection: int, score: float) -> None:
    """Raise an ``InputError`` unless the prediction has an object, class or region of this number."""
    if len(prediction) == 0:
        raise InputError(f'nothing with a score of at least {score:g} was found in the image; try a lower score')
    if not 0 <= detection < len(prediction):
        raise InputError(f'detection {detection} is not one of 0 to {len(prediction) - 1}')


def _target(predictor: 'Predictor', seen: View, prediction: 'Prediction', detection: int, score: float) -> Tensor:
    """The score y of a prediction, with its graph."""
    if prediction.boxes is None and prediction.label_map is None:
        return predictor.model(seen.batch['inputs'], mode='tensor')[0, prediction.labels[detection]]
    (sample,) = predictor.model(**seen.batch, mode='predict')
    if prediction.boxes is not None:
        scores = sample.pred_instances.scores
        return scores[scores >= score][detection]
    label, logits = int(prediction.labels[detection]), sample.seg_logits.data
    if len(logits) == 1:  # of two classes, the logit of the second
        logits = torch.cat((-logits, logits))
    return logits[label][torch.from_numpy(prediction.label_map == label).to(logits.device)].mean()


def _last_source(pairs: list[tuple[FeatureMap, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Maps and their gradients (C, h, w), of the last part of the model where the gradient is not zero everywhere."""
    sources = list(dict.fromkeys(known.source for known, _ in reversed(pairs)))
    for source in sources:
        levels = [
            (known.map[0].detach(), known.to_map(gradient)[0])
            for known, gradient in pairs
            if known.source == source and known.to_map(gradient).any()
        ]
        if levels:
            return levels
    return []


def _cam(levels: list[tuple[Tensor, Tensor]], seen: View, keep_places: bool) -> np.ndarray:
    """The sum of the levels' maps, in the size of the image as the model sees it."""
    (height, width), padded = seen.pixels.shape[:2], seen.batch['inputs'].shape[-2:]
    total = torch.zeros(padded, device=seen.batch['inputs'].device)
    for features, gradient in levels:
        weights = gradient if keep_places else gradient.mean(dim=(1, 2), keepdim=True)  # (C, h, w), or (C, 1, 1)
        cam = (weights * features).sum(dim=0).relu()
        stride = seen.stride((cam.shape[0], cam.shape[1]))
        covered = [side * stride for side in cam.shape]
        cam = F.interpolate(cam[None, None], size=covered, mode='bilinear')[0, 0, : padded[0], : padded[1]]
        total[: cam.shape[0], : cam.shape[1]] += cam
    return total[:height, :width].cpu().numpy()
