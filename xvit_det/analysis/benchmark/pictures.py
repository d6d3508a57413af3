"""``plot``: the pictures of a record, as Figures 4 and 5 of the X-ViT paper: memory against tokens, throughput against
resolution."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from xvit_det.analysis.benchmark.models import parse_size
from xvit_det.analysis.benchmark.record import read
from xvit_det.analysis.benchmark.scaling import curves, fits
from xvit_det.errors import InputError

COLOURS = ('#2f6fde', '#e0662f', '#3a9d5d', '#8a5cc2', '#c2a13a', '#4bb3c3', '#c24b7a', '#6b7280')
STYLES = ('-', '--', ':', '-.')
MARKERS = 'osD^vP'


def run(args: argparse.Namespace) -> None:
    """The command."""
    content = read(args.record)
    out = args.out or args.record.with_suffix('.png')
    draw(content, out)
    print(f'Picture: {out}')


def draw(content: dict, path: Path) -> None:
    """Draw a record of ``speed``, ``memory`` or ``scaling``.

    Raises:
        InputError: A record of another command, or without rows.
    """
    kind, rows = content['header'].get('kind'), content['rows']
    panels: dict[str, list[Callable[[Axes, list[dict]], None]]] = {
        'speed': [draw_throughput],
        'memory': [draw_memory],
        'scaling': [draw_memory, draw_time],
    }
    if kind not in panels:
        raise InputError(f'a record of kind {kind!r} has no picture; kinds that have: {", ".join(panels)}')
    if not rows:
        raise InputError(f'the record has no rows to draw in {path}')
    figure = Figure(figsize=(6.4 * len(panels[kind]), 4.8), layout='constrained', dpi=120)
    for axes, panel in zip(figure.subplots(1, len(panels[kind]), squeeze=False)[0], panels[kind], strict=True):
        panel(axes, rows)
        axes.grid(True, which='major', alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(_caption(content), fontsize=9, color='#555555')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def draw_throughput(axes: Axes, rows: list[dict]) -> None:
    """Images per second against resolution, a line for each model, dtype and mode."""
    lines: dict[tuple, dict[str, float]] = {}
    for row in rows:
        name = (row['model'], row['batch'], row['dtype'], row['mode'], False)
        lines.setdefault(name, {})[row['size']] = row['images_per_s']
    # A size stands where the square of as many pixels would.
    places = {row['size']: math.sqrt(math.prod(parse_size(row['size']))) for row in rows}
    for name, speeds in lines.items():
        points = sorted((places[size], speed) for size, speed in speeds.items())
        axes.plot(*zip(*points, strict=True), **_look(name, list(lines)))
    _log_axes(axes, {place: size for size, place in places.items()})
    axes.set_xlabel('image size, pixels')
    axes.set_ylabel('images per second')
    axes.set_title('Throughput by resolution')


def draw_memory(axes: Axes, rows: list[dict]) -> None:
    """Peak memory against tokens."""
    _draw_cost(axes, rows, 'peak_mib', 1024, 'peak memory beyond weights and images, GiB')
    axes.set_title('Memory by tokens')


def draw_time(axes: Axes, rows: list[dict]) -> None:
    """Milliseconds against tokens."""
    _draw_cost(axes, rows, 'ms', 1, 'ms')
    axes.set_title('Time by tokens')


def _draw_cost(axes: Axes, rows: list[dict], quantity: str, unit: float, label: str) -> None:
    """Points, and the exponent fitted to them in the legend."""
    lines, fitted = curves(rows, quantity), fits(rows, quantity)
    for name, points in lines.items():
        tokens, costs = zip(*points, strict=True)
        look = _look(name, list(lines))
        if name in fitted:
            look['label'] += f': tokens$^{{{fitted[name].exponent:.2f}}}$'
        axes.plot(tokens, [cost / unit for cost in costs], **look)
    _log_axes(axes, {row['tokens']: f'{row["tokens"]:,}' for row in rows})
    axes.set_xlabel('tokens of stride 16 in an image')
    axes.set_ylabel(label)


def _log_axes(axes: Axes, places: dict[float, str]) -> None:
    """Both logarithmic; marks at the places that were measured, and plain numbers upwards."""
    axes.set_xscale('log')
    axes.set_xticks(list(places), list(places.values()))
    axes.set_xticks([], minor=True)
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.set_yticks([], minor=True)


def _look(name: tuple, names: list[tuple]) -> dict:
    """Colour by model, line style by everything else; the label says what not all lines have in common."""
    models = list(dict.fromkeys(model for model, *_ in names))
    settings = list(dict.fromkeys(tuple(rest) for _, *rest in names))
    place, setting = models.index(name[0]), settings.index(name[1:])
    words = (f'batch {name[1]}', name[2], name[3], 'with_cp' if name[4] else '')
    differing = [word for i, word in enumerate(words, start=1) if len({other[i] for other in names}) > 1 and word]
    return dict(
        color=COLOURS[place % len(COLOURS)],
        linestyle=STYLES[setting % len(STYLES)],
        marker=MARKERS[setting % len(MARKERS)],
        markersize=4,
        label=' '.join([name[0].removesuffix('.py'), *differing]),
    )


def _caption(content: dict) -> str:
    header, rows = content['header'], content['rows']
    common = [
        f'{word}{next(iter(values))}'
        for word, values in (
            (w, {row[key] for row in rows}) for key, w in (('batch', 'batch '), ('dtype', ''), ('mode', ''))
        )
        if len(values) == 1
    ]
    where = f'{header["device"]}, {header["threads"]} threads, torch {header["torch"]}, {header["date"]}'
    return f'{", ".join(common)}; {where}' if common else where
