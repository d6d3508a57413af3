"""What an output depends on: norms of Jacobians, and effective receptive fields from them."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xvit_det.analysis.features import extract_maps, view

if TYPE_CHECKING:
    from xvit_det.inference import Predictor

DISTANCES = (32, 64, 128)  # pixels


def jacobian_norms(output: Tensor, x: Tensor, dim: int, projections: int = 16) -> Tensor:
    """Estimate how much an output depends on each position of an input: ``‖∂output / ∂x_j‖`` for every position j.

    A projection of the output on a random direction r has the gradient ``Jᵀ r``, which takes one backward pass. With r
    from a standard normal distribution the mean of its squared length is the squared Frobenius norm of J. The relative
    error is at most about ``1 / √(2 · projections)``. The directions are the same at every call.

    Args:
        output: (C,), with a graph.
        x: A tensor that the output was computed from.
        dim: The axis of its channels.
        projections: Number of directions.

    Returns:
        The shape of ``x`` without ``dim``.
    """
    generator = torch.Generator().manual_seed(0)
    squares = torch.zeros_like(x).sum(dim)
    for _ in range(projections):
        direction = torch.randn(output.shape, generator=generator).to(output)
        (gradient,) = torch.autograd.grad(output, x, direction, retain_graph=True)
        squares += gradient.square().sum(dim)
    return (squares / projections).sqrt()


class ReceptiveField(NamedTuple):
    """What the middle of a map depends on.

    Args:
        source: Whose map it is, see :class:`xvit_det.analysis.features.FeatureMap`.
        stride: Of the map, in pixels of the input.
        gradient: (h, w), the norm of the gradient at each pixel of the image as the model sees it.
        centre: x, y of the middle, in the same pixels.
    """

    source: str
    stride: int
    gradient: np.ndarray
    centre: tuple[float, float]

    def share_within(self, distance: float) -> float:
        """The share of the gradient's sum at most so many pixels away from the middle."""
        rows, columns = (np.arange(side) + 0.5 for side in self.gradient.shape)
        x, y = self.centre
        near = (rows[:, None] - y) ** 2 + (columns - x) ** 2 <= distance**2  # (h, 1), (w,) -> (h, w)
        return float(self.gradient[near].sum() / self.gradient.sum())


def receptive_fields(predictor: 'Predictor', image: Any, projections: int = 16) -> list[ReceptiveField]:
    """The effective receptive field of each map of backbone and neck (arXiv 1701.04128, Section 2).

    It is the gradient of the token in the middle with respect to the image, for one image: attention depends on what
    is in it.

    Args:
        predictor: From :func:`xvit_det.load`.
        image: As :meth:`xvit_det.inference.Predictor.predict` takes it.
        projections: See :func:`jacobian_norms`.

    Raises:
        InputError: The image cannot be read, or the model has no backbone that returns maps.
    """
    seen = view(predictor, image)
    inputs = seen.batch['inputs'].detach().requires_grad_()
    with torch.enable_grad():
        maps = extract_maps(predictor, inputs)
    (height, width), fields = seen.pixels.shape[:2], []
    for known in maps:
        row, column = seen.token_at(seen.middle, known.size)
        norms = jacobian_norms(known.map[0, :, row, column], inputs, dim=1, projections=projections)
        stride = seen.stride(known.size)
        centre = ((column + 0.5) * stride, (row + 0.5) * stride)
        gradient = norms[0, :height, :width].cpu().numpy()  # without the padding
        fields.append(ReceptiveField(known.source, stride, gradient, centre))
    return fields
