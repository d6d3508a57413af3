"""How costs grow with the number of tokens: curves from a record, and the exponents fitted to them."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Fit(NamedTuple):
    """``cost ~ tokens ** exponent``; ``r2`` is the share of the logarithms' variance that it explains."""

    exponent: float
    r2: float


def fit_power(tokens: Sequence[float], costs: Sequence[float]) -> Fit:
    """Least squares on logarithms.

    Args:
        tokens, costs: At least two positive values each, not all tokens equal.
    """
    x, y = [math.log(value) for value in tokens], [math.log(value) for value in costs]
    r2 = statistics.correlation(x, y) ** 2 if len(set(y)) > 1 else 1.0
    return Fit(statistics.linear_regression(x, y).slope, r2)


def curves(rows: list[dict], quantity: str) -> dict[tuple, list[tuple[int, float]]]:
    """The points (tokens, cost) of each (model, batch, dtype, mode, with_cp), sorted by tokens."""
    found: dict[tuple, list[tuple[int, float]]] = {}
    for row in rows:
        name = (row['model'], row['batch'], row['dtype'], row['mode'], row.get('with_cp', False))
        if row[quantity] > 0:  # tiny models fit into memory that the process had already
            found.setdefault(name, []).append((row['tokens'], row[quantity]))
    return {name: sorted(points) for name, points in found.items()}


def fits(rows: list[dict], quantity: str) -> dict[tuple, Fit]:
    """The fit of each of :func:`curves` with at least three sizes; a line through two always fits."""
    return {
        name: fit_power(*zip(*points, strict=True))
        for name, points in curves(rows, quantity).items()
        if len({tokens for tokens, _ in points}) >= 3
    }


def fit_rows(rows: list[dict]) -> list[dict]:
    """The fits of time and memory as rows of a table."""
    names = ('model', 'batch', 'dtype', 'mode', 'with_cp')
    return [
        dict(zip(names, name, strict=True)) | dict(quantity=quantity, **fit._asdict())
        for quantity in ('ms', 'peak_mib')
        if rows and {'tokens', quantity} <= rows[0].keys()
        for name, fit in fits(rows, quantity).items()
    ]
