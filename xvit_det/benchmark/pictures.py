"""``plot``: the pictures of a record, as Figures 4 and 5 of the X-ViT paper: memory against tokens, throughput against
resolution."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from xvit_det.benchmark.models import parse_size
from xvit_det.benchmark.record import read
from xvit_det.benchmark.scaling import curves, fits
from xvit_det.benchmark.tables import UNFUSED
from xvit_det.errors import InputError

COLOURS = ('#2f6fde', '#e0662f', '#3a9d5d', '#8a5cc2', '#c2a13a', '#4bb3c3', '#c24b7a', '#6b7280')
STYLES = ('-', '--', ':', '-.')
MARKERS = 'osD^vP'
ROOM = 1.5  # factor between places on a logarithmic axis that both have a label
Panel = tuple[Callable[[Axes, list[dict]], None], list[dict]]


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
    panels: dict[str, Callable[[list[dict]], list[Panel]]] = {
        'speed': throughput_panels,
        'memory': lambda rows: [(draw_memory, rows)],
        'scaling': lambda rows: [(draw_memory, rows), (draw_time, rows)],
    }
    if kind not in panels:
        raise InputError(f'a record of kind {kind!r} has no picture; kinds that have: {", ".join(panels)}')
    if not rows:
        raise InputError(f'the record has no rows to draw in {path}')
    drawn = panels[kind](rows)
    columns = min(len(drawn), 4)
    lines = -(-len(drawn) // columns)
    figure = Figure(figsize=((6.4 if columns < 3 else 4) * columns, 4.8 * lines), layout='constrained', dpi=110)
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, (panel, its_rows) in zip(grid, drawn, strict=False):
        panel(axes, its_rows)
        axes.grid(True, which='major', alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
        if axes.lines:
            axes.legend(fontsize=8, frameon=False)
    for axes in grid[len(drawn) :]:
        axes.remove()
    figure.suptitle(_caption(content), fontsize=9, color='#555555')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def throughput_panels(rows: list[dict]) -> list[Panel]:
    """One for each dtype and mode; a fused model is in that of the others, which cannot be fused."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row['dtype'], UNFUSED.get(row['mode'], row['mode'])), []).append(row)
    return [(draw_throughput, group) for group in groups.values()]


def draw_throughput(axes: Axes, rows: list[dict]) -> None:
    """Images per second against resolution, a line for each model."""
    lines: dict[tuple, dict[str, float]] = {}
    for row in rows:
        name = (row['model'], None, row['dtype'], 'fused' if row['mode'] in UNFUSED else '', False)
        lines.setdefault(name, {})[row['size']] = row['images_per_s']
    # A size stands where the square of as many pixels would.
    places = {row['size']: math.sqrt(math.prod(parse_size(row['size']))) for row in rows}
    for name, speeds in lines.items():
        points = sorted((places[size], speed) for size, speed in speeds.items())
        axes.plot(*zip(*points, strict=True), **_look(name, list(lines)))
    _log_axes(axes, {place: size for size, place in places.items()})
    axes.set_xlabel('image size, pixels')
    axes.set_ylabel('images per second')
    axes.set_title(f'Throughput: {rows[0]["dtype"]}, {UNFUSED.get(rows[0]["mode"], rows[0]["mode"])}')


def draw_memory(axes: Axes, rows: list[dict]) -> None:
    """Peak memory against tokens."""
    _draw_cost(axes, rows, 'peak_mib', 1024, 'peak memory beyond weights and images, GiB')
    tokens = {row['tokens'] for row in rows}
    axes.set_title('Memory by tokens' if len(tokens) > 1 else f'Memory with {tokens.pop():,} tokens')


def draw_time(axes: Axes, rows: list[dict]) -> None:
    """Milliseconds against tokens."""
    _draw_cost(axes, rows, 'ms', 1, 'ms')
    axes.set_title('Time by tokens')


def _draw_cost(axes: Axes, rows: list[dict], quantity: str, unit: float, label: str) -> None:
    """Points, and the exponent fitted to them in the legend; bars where there is one number of tokens."""
    lines, fitted = curves(rows, quantity), fits(rows, quantity)
    if len({row['tokens'] for row in rows}) == 1:
        return _draw_bars(axes, {name: points[0][1] / unit for name, points in lines.items()}, label)
    for name, points in lines.items():
        tokens, costs = zip(*points, strict=True)
        look = _look(name, list(lines))
        if name in fitted:
            look['label'] += f': tokens$^{{{fitted[name].exponent:.2f}}}$'
        axes.plot(tokens, [cost / unit for cost in costs], **look)
    _log_axes(axes, {row['tokens']: f'{row["tokens"]:,}' for row in rows})
    axes.set_xlabel('tokens of stride 16 in an image')
    axes.set_ylabel(label)


def _draw_bars(axes: Axes, costs: dict[tuple, float], label: str) -> None:
    """What there is to see of a single number of tokens."""
    for number, (name, cost) in enumerate(costs.items()):
        look = _look(name, list(costs))
        axes.barh(number, cost, color=look['color'])
        axes.annotate(f'{cost:.2f}', (cost, number), xytext=(3, 0), textcoords='offset points', va='center')
    axes.set_yticks(range(len(costs)), [_look(name, list(costs))['label'] for name in costs])
    axes.invert_yaxis()
    axes.set_xlabel(label)


def _log_axes(axes: Axes, places: dict[float, str]) -> None:
    """Both logarithmic; marks at the places that were measured, as far as they have room, and plain numbers upwards."""
    axes.set_xscale('log')
    shown: list[float] = []
    for place in sorted(places):
        if not shown or place > ROOM * shown[-1]:
            shown.append(place)
    axes.set_xticks(shown, [places[place] for place in shown])
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
