"""``plot``: a record as curves, like Figures 4 and 5 of the X-ViT paper: memory by tokens, throughput by resolution."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from xvit_det.benchmark.cases import UNFUSED, parse_size
from xvit_det.benchmark.fits import curves, fits
from xvit_det.errors import InputError

COLORS = ('#2f6fde', '#e0662f', '#3a9d5d', '#8a5cc2', '#c2a13a', '#4bb3c3', '#c24b7a', '#6b7280')
STYLES = ('-', '--', ':', '-.')
MARKERS = 'osD^vP'
MIN_TICK_RATIO = 1.5  # closer ticks of a logarithmic axis would have overlapping labels
COLUMNS = 4
Panel = Callable[[Axes], None]


def draw(content: dict, path: Path) -> None:
    """Plot a record of ``speed``, ``memory`` or ``scaling``.

    Raises:
        InputError: A record of another command, or without rows.
    """
    kind, rows = content['header'].get('kind'), content['rows']
    if kind not in ('speed', 'memory', 'scaling'):
        raise InputError(f'a record of kind {kind!r} has no plot; kinds that have: speed, memory, scaling')
    if not rows:
        raise InputError(f'the record has no rows to plot in {path}')
    if kind == 'speed':
        panels: list[Panel] = [partial(draw_throughput, rows=group) for group in throughput_groups(rows)]
    else:
        panels = [partial(draw_memory, rows=rows)]
        if kind == 'scaling':
            panels.append(partial(draw_time, rows=rows))
    columns, lines = min(len(panels), COLUMNS), math.ceil(len(panels) / COLUMNS)
    width = 6.4 if columns < 3 else 4
    figure = Figure(figsize=(width * columns, 4.8 * lines), layout='constrained', dpi=110)
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(lines, columns, number)
        panel(axes)
        axes.grid(True, which='major', alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.suptitle(_caption(content), fontsize=9, color='#555555')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def throughput_groups(rows: list[dict]) -> Iterable[list[dict]]:
    """The rows of each panel, which share dtype and mode; fused models stand beside the unfused ones."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row['dtype'], UNFUSED.get(row['mode'], row['mode'])), []).append(row)
    return groups.values()


def draw_throughput(axes: Axes, rows: list[dict]) -> None:
    """Images per second by resolution."""
    # A size stands at the side of the square with as many pixels.
    places = {row['size']: math.sqrt(math.prod(parse_size(row['size']))) for row in rows}
    lines: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for row in rows:
        fused = 'fused' if row['mode'] in UNFUSED else ''
        lines.setdefault((row['model'], fused), []).append((places[row['size']], row['images_per_s']))
    for name, look in _looks(list(lines)).items():
        axes.plot(*zip(*sorted(lines[name]), strict=True), **look)
    _set_log_axes(axes, {place: size for size, place in places.items()})
    title = f'Throughput: {rows[0]["dtype"]}, {UNFUSED.get(rows[0]["mode"], rows[0]["mode"])}'
    axes.set(title=title, xlabel='image size, pixels', ylabel='images per second')


def draw_memory(axes: Axes, rows: list[dict]) -> None:
    """Peak memory by tokens; bars if there is only one number of tokens."""
    label = 'peak memory beyond weights and images, GiB'
    rows = [row | dict(peak_gib=row['peak_mib'] / 1024) for row in rows]
    tokens = {row['tokens'] for row in rows}
    if len(tokens) > 1:
        _draw_cost(axes, rows, 'peak_gib')
        axes.set(title='Memory by tokens', ylabel=label)
        return
    points = {_words(name): points for name, points in curves(rows, 'peak_gib').items()}
    looks = _looks(list(points))
    labels, colors = ([look[key] for look in looks.values()] for key in ('label', 'color'))
    bars = axes.barh(labels, [points[name][0][1] for name in looks], color=colors)
    axes.bar_label(bars, fmt='%.2f', padding=3)
    axes.invert_yaxis()
    axes.set(title=f'Memory with {tokens.pop():,} tokens', xlabel=label)


def draw_time(axes: Axes, rows: list[dict]) -> None:
    """Milliseconds by tokens."""
    _draw_cost(axes, rows, 'ms')
    axes.set(title='Time by tokens', ylabel='ms')


def _draw_cost(axes: Axes, rows: list[dict], quantity: str) -> None:
    """Lines by tokens, with the fitted exponents in the legend."""
    lines = {_words(name): points for name, points in curves(rows, quantity).items()}
    fitted = {_words(name): fit for name, fit in fits(rows, quantity).items()}
    for name, look in _looks(list(lines)).items():
        if name in fitted:
            look['label'] += f': tokens$^{{{fitted[name].exponent:.2f}}}$'
        axes.plot(*zip(*lines[name], strict=True), **look)
    _set_log_axes(axes, {row['tokens']: f'{row["tokens"]:,}' for row in rows})
    axes.set_xlabel('tokens of stride 16 per image')


def _words(name: tuple) -> tuple[str, ...]:
    """The name of one of :func:`curves` as words for a legend."""
    model, batch, dtype, mode, with_cp = name
    return model, f'batch {batch}', dtype, mode, 'with_cp' if with_cp else ''


def _looks(names: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], dict]:
    """Color by model, line style by the other words; labels omit the words that all names share."""
    models = list(dict.fromkeys(name[0] for name in names))
    settings = list(dict.fromkeys(name[1:] for name in names))
    differing = [i for i in range(1, len(names[0])) if len({name[i] for name in names}) > 1]
    looks = {}
    for name in sorted(names, key=lambda name: models.index(name[0])):
        model, setting = models.index(name[0]), settings.index(name[1:])
        looks[name] = dict(
            color=COLORS[model % len(COLORS)],
            linestyle=STYLES[setting % len(STYLES)],
            marker=MARKERS[setting % len(MARKERS)],
            markersize=4,
            label=' '.join([name[0].removesuffix('.py'), *(name[i] for i in differing if name[i])]),
        )
    return looks


def _set_log_axes(axes: Axes, ticks: dict[float, str]) -> None:
    """Log-log axes with a legend; x ticks where something was measured, as far as their labels have room."""
    axes.set_xscale('log')
    shown: list[float] = []
    for place in sorted(ticks):
        if not shown or place > MIN_TICK_RATIO * shown[-1]:
            shown.append(place)
    axes.set_xticks(shown, [ticks[place] for place in shown])
    axes.set_xticks([], minor=True)
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.set_yticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)


def _caption(content: dict) -> str:
    """The settings that all rows share, the machine and the date."""
    header, words = content['header'], []
    for key, prefix in (('batch', 'batch '), ('dtype', ''), ('mode', '')):
        values = {row[key] for row in content['rows']}
        if len(values) == 1:
            words.append(f'{prefix}{values.pop()}')
    words += [header['device'], f'{header["threads"]} threads', f'torch {header["torch"]}', header['date']]
    return ', '.join(words)
