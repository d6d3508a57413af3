"""What a model computes from an image, drawn beside it: feature maps, token mixers, Grad-CAM, receptive fields."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from xvit_det.analysis.features import FeatureMap, View, principal_colours
from xvit_det.analysis.grad_cam import Explanation
from xvit_det.analysis.influence import DISTANCES, ReceptiveField
from xvit_det.analysis.tokens import TokenMap

Panel = Callable[[Axes], None] | None


def draw_features(path: str | Path, seen: View, maps: Sequence[FeatureMap], title: str) -> None:
    """Save the maps beside the image: principal components of the channels as colours, and the norm of each token.

    Args:
        path: The PNG to write.
        seen: The image.
        maps: From :func:`xvit_det.analysis.features.feature_maps`.
        title: Printed above.
    """
    rows: list[list[Panel]] = []
    for _, group in groupby(maps, key=lambda known: known.source.split()[0]):
        levels = list(group)
        colours, norms = ([partial(draw, seen=seen, known=known) for known in levels] for draw in (_colours, _norms))
        rows += [[None, *colours], [None, *norms]] if len(levels) > 1 else [[None, *colours, *norms]]
    rows[0][0] = partial(_image, seen=seen, title=f'the image, {seen.size[1]} x {seen.size[0]}')
    _save(path, rows, seen.size, title)


def draw_tokens(path: str | Path, seen: View, maps: Sequence[TokenMap], point: tuple[float, float], title: str) -> None:
    """Save what each block's mixer does at a point, which is marked.

    Args:
        path: The PNG to write.
        seen: The image.
        maps: From :func:`xvit_det.analysis.tokens.token_maps`.
        point: x, y in pixels of the image.
        title: Printed above.
    """
    image = partial(_image, seen=seen, title=f'the image and the point {point[0]:.0f}, {point[1]:.0f}', point=point)
    signs = any(known.values.min() < 0 for known in maps)  # those of softmax attention have none
    panels = [
        (
            known.what,
            partial(_tokens, seen=seen, known=known, is_signed=signs and known.what != 'influence'),
        )
        for known in maps
    ]
    if len({known.block for known in maps}) == 1:
        rows = _rows([image, *(panel for _, panel in panels)], seen.size)
    else:
        kinds = dict.fromkeys(what for what, _ in panels)
        rows = [row for kind in kinds for row in _rows([panel for what, panel in panels if what == kind], seen.size)]
        rows = [[None if i else image, *row] for i, row in enumerate(rows)]
    _save(path, rows, seen.size, title)


def draw_explanation(path: str | Path, seen: View, explanation: Explanation, title: str) -> None:
    """Save Grad-CAM and HiResCAM of a prediction beside the image.

    Args:
        path: The PNG to write.
        seen: The image.
        explanation: From :func:`xvit_det.analysis.grad_cam.gradcam`.
        title: Printed above.
    """
    name = f'{explanation.name} {explanation.score:.2f}'
    panels: list[Panel] = [partial(_image, seen=seen, title=name, box=explanation.box)]
    for method, cam in (('Grad-CAM', explanation.gradcam), ('HiResCAM', explanation.hirescam)):
        if explanation.box is not None and cam.any():
            method += f': {100 * explanation.share_inside(cam):.0f} % inside the box'
        panels.append(partial(_heat, seen=seen, cam=cam, title=method, box=explanation.box))
    _save(path, [panels], seen.size, title)


def draw_receptive_fields(path: str | Path, fields: Sequence[tuple[str, Sequence[ReceptiveField]]], title: str) -> None:
    """Save effective receptive fields, of each model and part in a row, with circles at the distances of the shares.

    Args:
        path: The PNG to write.
        fields: Names of models, each with those from :func:`xvit_det.analysis.influence.receptive_fields`.
        title: Printed above.
    """
    shapes = [every[0].gradient.shape for _, every in fields]
    height, width = max(height for height, _ in shapes), max(width for _, width in shapes)
    rows: list[list[Panel]] = [
        row
        for name, every in fields
        for _, group in groupby(every, key=lambda field: field.source.split()[0])
        for row in _rows([partial(_field, name=name, field=field) for field in group], (height, width))
    ]
    _save(path, rows, (height, width), title)


def _rows(panels: list, size: tuple[int, int]) -> list[list]:
    """Panels in rows of equal length: at most six of square images, fewer of wide ones."""
    limit = max(2, round(6 / max(1, size[1] / size[0]) ** 0.6))
    length = -(-len(panels) // -(-len(panels) // limit))
    return [panels[i : i + length] for i in range(0, len(panels), length)]


def _save(path: str | Path, rows: list[list[Panel]], size: tuple[int, int], title: str) -> None:
    """Save panels in rows, for images of the size (height, width)."""
    aspect = size[1] / size[0]
    width, columns = 2.7 * aspect**0.4, max(map(len, rows))  # inches of a panel
    width_of_title = 0.085 * len(title)  # inches
    figure = Figure(
        figsize=(max(width * columns, width_of_title), (width / aspect + 0.4) * len(rows) + 0.3), layout='constrained'
    )
    for axes_row, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes, panel in zip(axes_row, [*row, *[None] * (columns - len(row))], strict=True):
            if panel is None:
                axes.set_axis_off()
            else:
                panel(axes)
    figure.suptitle(title, fontsize=10, color='#555555')
    figure.savefig(path, dpi=110)


def _map(axes: Axes, seen: View, values: np.ndarray, title: str, **settings: Any) -> Any:
    """Draw a map; what it covers beyond the image is cut off."""
    height, width = seen.covered_size(values.shape[:2])
    picture = axes.imshow(values, extent=(0, width, height, 0), interpolation='nearest', **settings)
    _frame(axes, seen.size, title)
    return picture


def _frame(axes: Axes, size: tuple[float, float], title: str) -> None:
    axes.set(xlim=(0, size[1]), ylim=(size[0], 0))
    axes.set_title(title, fontsize=8.5, loc='left', pad=3)
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=6.5, length=2, color='#999999', labelcolor='#777777')
    axes.spines[:].set_visible(False)


def _image(
    axes: Axes,
    seen: View,
    title: str,
    box: np.ndarray | None = None,
    point: tuple[float, float] | None = None,
) -> None:
    axes.imshow(seen.pixels, extent=(0, seen.size[1], seen.size[0], 0))
    _frame(axes, seen.size, title)
    _marks(axes, box, point)


def _colours(axes: Axes, seen: View, known: FeatureMap) -> None:
    _map(axes, seen, principal_colours(known.map[0]), f'{_title(seen, known)}: PCA')


def _norms(axes: Axes, seen: View, known: FeatureMap) -> None:
    norms = known.map[0].norm(dim=0).cpu().numpy()  # (C, h, w) -> (h, w)
    _colour_bar(axes, _map(axes, seen, norms, f'{_title(seen, known)}: norm'))


def _title(seen: View, known: FeatureMap) -> str:
    h, w = known.size
    return f'{known.source}, stride {seen.stride(known.size)}, {w} x {h}'


def _tokens(axes: Axes, seen: View, known: TokenMap, is_signed: bool) -> None:
    """Numbers of tokens, in colours that leave the point itself out: there they are often by far the largest."""
    others = known.values.copy()
    if known.at_point is not None:
        others[known.at_point] = 0
    limit = float(np.abs(others).max()) or 1
    title = f'{known.block}: {known.what}'.replace('blocks.', 'block ').replace('_', ' ')
    if known.what == 'influence' and known.at_point is not None and known.values.any():
        title += f', {100 * known.values[known.at_point] / known.values.sum():.0f} % here'
    low, colours = (-limit, 'RdBu_r') if is_signed else (0, 'viridis')
    _colour_bar(axes, _map(axes, seen, known.values, title, vmin=low, vmax=limit, cmap=colours))
    if known.at_point is not None:
        size = known.values.shape
        steps = [side / number for side, number in zip(seen.covered_size(size), size, strict=True)]
        _marks(axes, None, ((known.at_point[1] + 0.5) * steps[1], (known.at_point[0] + 0.5) * steps[0]))


def _heat(axes: Axes, seen: View, cam: np.ndarray, title: str, box: np.ndarray | None) -> None:
    """A map over the image in grey, the more opaque the larger its numbers."""
    extent = (0, seen.size[1], seen.size[0], 0)
    axes.imshow(seen.pixels.mean(axis=2), extent=extent, cmap='gray', vmin=0, vmax=255)
    share = cam / (cam.max() or 1)
    colours = colormaps['inferno'](share)  # (h, w) -> (h, w, 4)
    colours[..., 3] = 0.35 + 0.6 * share
    axes.imshow(colours, extent=extent)
    _frame(axes, seen.size, title)
    _marks(axes, box, None)


def _field(axes: Axes, name: str, field: ReceptiveField) -> None:
    shares = ', '.join(f'{100 * field.share_within(distance):.0f} %' for distance in DISTANCES)
    within = ', '.join(map(str, DISTANCES))
    title = f'{name}\n{field.source}, stride {field.stride}\n{shares} within {within} px'
    height, width = field.gradient.shape
    largest = float(field.gradient.max()) or 1
    shown = np.maximum(field.gradient, 1e-4 * largest)
    picture = axes.imshow(
        shown,
        extent=(0, width, height, 0),
        cmap='magma',
        norm=LogNorm(1e-4 * largest, largest),
        interpolation='nearest',
    )
    for distance in DISTANCES:
        axes.add_patch(Circle(field.centre, distance, fill=False, color='white', linewidth=0.7, linestyle=':'))
    _colour_bar(axes, picture)
    _frame(axes, (height, width), title)


def _marks(axes: Axes, box: np.ndarray | None, point: tuple[float, float] | None) -> None:
    if box is not None:
        x1, y1, x2, y2 = box
        for colour, width in (('black', 2.4), ('white', 1.2)):
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, linewidth=width))
    if point is not None:
        axes.plot(*point, 'o', markersize=7, markerfacecolor='none', markeredgecolor='black', markeredgewidth=2.4)
        axes.plot(*point, 'o', markersize=7, markerfacecolor='none', markeredgecolor='white', markeredgewidth=1.2)


def _colour_bar(axes: Axes, picture: Any) -> None:
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(picture, cax=axes.inset_axes((1.02, 0, 0.03, 1)))
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.outline.set_visible(False)
