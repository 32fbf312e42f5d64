"""Loops over blocks of screened distances, and the distances themselves in float64 (numba)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.norms import FloatArray

__all__ = [
    "aligned_differences",
    "keep_nearest",
    "mark_inside",
    "measured_lengths",
    "measured_pairs",
]

# The square of a measured distance, against the square that it is compared with.
SQUARE_ROUNDOFF = 1e-12
# Targets that are looked at together.
CHUNK = 128


@compiled
def _square(x: FloatArray, y: FloatArray) -> float:
    """||x - y||_2^2 in eight running sums: quick, and the same number on every machine."""
    a = b = c = d = e = f = g = h = 0.0
    whole = len(x) - len(x) % 8
    for i in range(0, whole, 8):
        a += (x[i] - y[i]) ** 2
        b += (x[i + 1] - y[i + 1]) ** 2
        c += (x[i + 2] - y[i + 2]) ** 2
        d += (x[i + 3] - y[i + 3]) ** 2
        e += (x[i + 4] - y[i + 4]) ** 2
        f += (x[i + 5] - y[i + 5]) ** 2
        g += (x[i + 6] - y[i + 6]) ** 2
        h += (x[i + 7] - y[i + 7]) ** 2
    for i in range(whole, len(x)):
        a += (x[i] - y[i]) ** 2
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@compiled
def _nearest_translate(x: FloatArray, y: FloatArray, shape: tuple[int, int, int]) -> tuple[float, int, int]:
    """min over T of ||x - T y||_2^2, and the first (a, b) that attains it."""
    channels, height, width = shape
    best, down, right = np.inf, 0, 0
    for a in range(height):
        for b in range(width):
            total = 0.0
            for c in range(channels):
                for i in range(height):
                    to = (c * height + i) * width
                    source = (c * height + (i - a) % height) * width
                    for j in range(b):
                        total += (x[to + j] - y[source + j - b + width]) ** 2
                    for j in range(b, width):
                        total += (x[to + j] - y[source + j - b]) ** 2
                if total >= best:
                    break
            if total < best:
                best, down, right = total, a, b
    return best, down, right


@compiled
def _square_in(x: FloatArray, y: FloatArray, shape: tuple[int, int, int]) -> float:
    """Squared distance of two points, or of their orbits when `shape` has several positions."""
    if shape[1] * shape[2] == 1:
        return _square(x, y)
    return _nearest_translate(x, y, shape)[0]


@compiled
def measured_pairs(points: FloatArray, rows: NDArray[np.int64], others: NDArray[np.int64]) -> FloatArray:
    """Euclidean distances of pairs of rows; inf where the other one is -1."""
    found = np.full(len(rows), np.inf)
    for k in range(len(rows)):
        if others[k] >= 0:
            found[k] = np.sqrt(_square(points[rows[k]], points[others[k]]))
    return found


@compiled
def measured_lengths(points: FloatArray, centre: int, rows: NDArray[np.int64]) -> FloatArray:
    """Euclidean distances from one row to others."""
    found = np.empty(len(rows))
    for k in range(len(rows)):
        found[k] = np.sqrt(_square(points[centre], points[rows[k]]))
    return found


@compiled
def aligned_differences(
    points: FloatArray, shape: tuple[int, int, int], centre: int, rows: NDArray[np.int64]
) -> FloatArray:
    """T y - x for x the centre and every row y in its translation T that comes nearest to x; shape (len(rows), d)."""
    channels, height, width = shape
    found = np.empty((len(rows), points.shape[1]))
    for k in range(len(rows)):
        _, a, b = _nearest_translate(points[centre], points[rows[k]], shape)
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    source = (c * height + (i - a) % height) * width + (j - b) % width
                    place = (c * height + i) * width + j
                    found[k, place] = points[rows[k], source] - points[centre, place]
    return found


@compiled(fastmath={"nnan", "nsz"})
def _least_screened(
    products: Any, own: FloatArray, others: FloatArray, of_rows: FloatArray, of_columns: FloatArray
) -> None:
    """The least screened squared distance in every row and column of a block; there is no NaN."""
    for i in range(len(own)):
        least = np.inf
        for j in range(len(others)):
            square = own[i] + others[j] - 2.0 * products[i, j]
            least = min(least, square)
            of_columns[j] = min(of_columns[j], square)
        of_rows[i] = least


@compiled
def _any_below(products: Any, own: float, others: FloatArray, limit: float, limits: FloatArray) -> bool:
    """Whether a screened squared distance is at most the common limit or its own.

    Without a branch for each number this runs on whole vectors, and most often there is none.
    """
    hits = 0
    for j in range(len(others)):
        square = own + others[j] - 2.0 * products[j]
        hits += (square <= limit) | (square <= limits[j])
    return hits > 0


@compiled
def keep_nearest(
    points: FloatArray,
    shape: tuple[int, int, int],
    products: Any,
    squares: FloatArray,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    doubt: FloatArray,
    row_best: FloatArray,
    row_found: NDArray[np.int64],
    column_best: FloatArray,
    column_found: NDArray[np.int64],
) -> None:
    """Lower the best squared distance of rows, and of columns, where a screened one says that it may be lower.

    Measured is what may be the least of its row or column in the block, and less than the best so far. Equal distances
    lead to the column, or row, that comes first.

    Args:
        products: (rows, columns), m(x, y) in the precision of the screen; -inf for a pair that does not count.
        squares: (N,), squared lengths of the screen's rows.
        rows, columns: of the data.
        doubt: (N,), how far a screened squared distance may be off.
        row_best: (rows,), lowered in place, with `row_found`, the columns that attain it.
        column_best, column_found: (columns,), the other way round; -1 in `column_best` asks for nothing.
    """
    own, others = squares[rows], squares[columns]
    row_limits, column_limits = np.empty(len(rows)), np.full(len(columns), np.inf)
    _least_screened(products, own, others, row_limits, column_limits)
    # The least is at most the least screened one plus its doubt, and then screened as at most that plus the doubt.
    for i in range(len(rows)):
        row_limits[i] = min(row_best[i], row_limits[i] + doubt[rows[i]]) + doubt[rows[i]]
    for j in range(len(columns)):
        column_limits[j] = min(column_best[j], column_limits[j] + doubt[columns[j]]) + doubt[columns[j]]
    for i in range(len(rows)):
        row = rows[i]
        for begin in range(0, len(columns), CHUNK):
            end = min(begin + CHUNK, len(columns))
            limit, limits = row_limits[i], column_limits[begin:end]
            if not _any_below(products[i, begin:end], own[i], others[begin:end], limit, limits):
                continue
            for j in range(begin, end):
                square = own[i] + others[j] - 2.0 * products[i, j]
                if (square <= limit or square <= column_limits[j]) and square < np.inf:
                    square = _square_in(points[row], points[columns[j]], shape)
                    if square < row_best[i]:
                        row_best[i], row_found[i] = square, columns[j]
                    if square < column_best[j]:
                        column_best[j], column_found[j] = square, row


@compiled
def mark_inside(
    points: FloatArray,
    shape: tuple[int, int, int],
    products: Any,
    squares: FloatArray,
    centres: NDArray[np.int64],
    targets: NDArray[np.int64],
    radii: FloatArray,
    doubt: FloatArray,
    inside: NDArray[np.bool_],
) -> None:
    """Which targets lie in which ball: by the screen where it is sure, else by the distance itself.

    Args:
        inside: (centres, targets), all False; set in place. The others as in `keep_nearest`.
    """
    others, nothing = squares[targets], np.full(CHUNK, -np.inf)
    for i in range(len(centres)):
        centre = centres[i]
        limit = radii[i] ** 2
        low = limit * (1.0 - SQUARE_ROUNDOFF) - doubt[i] - squares[centre]
        high = limit * (1.0 + SQUARE_ROUNDOFF) + doubt[i] - squares[centre]
        for begin in range(0, len(targets), CHUNK):
            end = min(begin + CHUNK, len(targets))
            if not _any_below(products[i, begin:end], 0.0, others[begin:end], high, nothing):
                continue
            for j in range(begin, end):
                screened = others[j] - 2.0 * products[i, j]
                if screened <= high:
                    inside[i, j] = screened < low or (
                        np.sqrt(_square_in(points[centre], points[targets[j]], shape)) <= radii[i]
                    )
