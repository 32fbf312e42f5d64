"""Every cell of a small hyperplane arrangement in exact rational arithmetic, however degenerate.

A cell of an arrangement of full rank has a vertex. Around a vertex the cells are those of the central arrangement of
the hyperplanes through it, which is cut by a generic hyperplane to an arrangement of one dimension less. No tolerance
enters: hyperplanes that meet do so exactly, or not at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeAlias

__all__ = ["exact_cells", "pivot_columns"]

Row: TypeAlias = tuple[Fraction, ...]
Signs: TypeAlias = tuple[int, ...]


def exact_cells(rows: Sequence[Row], offsets: Sequence[Fraction], proceed: Callable[[], bool]) -> dict[Signs, Row]:
    """All sign vectors of full-dimensional cells, each with a point strictly inside.

    Args:
        rows: normals a_j in R^k, M of them; zero rows are allowed.
        offsets: b_j.
        proceed: called between vertices; False stops the search.
    Returns:
        Sign vectors (M,) of a_j x + b_j on every cell, mapped to a point of the cell. A sign is 0 exactly when a_j = 0
        and b_j = 0.
    Raises:
        TimeoutError: `proceed` said stop.
    """
    dimension = len(rows[0]) if rows else 0
    pivots = pivot_columns(rows)
    if len(pivots) < dimension:
        # Sign patterns depend on x only through A x, whose range the pivot columns span.
        reduced = exact_cells([tuple(row[k] for k in pivots) for row in rows], offsets, proceed)
        return {signs: _embed(point, pivots, dimension) for signs, point in reduced.items()}
    if dimension == 0:
        return {tuple(_sign(b) for b in offsets): ()}
    found: dict[Signs, Row] = {}
    seen: set[tuple[int, ...]] = set()
    moving = [j for j, row in enumerate(rows) if any(row)]
    for subset in itertools.combinations(moving, dimension):
        if not proceed():
            raise TimeoutError
        vertex = _solve([rows[j] for j in subset], [-offsets[j] for j in subset])
        if vertex is None:
            continue
        values = [_dot(row, vertex) + b for row, b in zip(rows, offsets, strict=True)]
        through = tuple(j for j in moving if values[j] == 0)
        if through in seen:
            continue
        seen.add(through)
        local = _central_cells([rows[j] for j in through], proceed)
        for signs, direction in local.items():
            full = [_sign(value) for value in values]
            for j, sign in zip(through, signs, strict=True):
                full[j] = sign
            if tuple(full) not in found:
                found[tuple(full)] = _step(rows, values, vertex, direction)
    return found


def _central_cells(rows: Sequence[Row], proceed: Callable[[], bool]) -> dict[Signs, Row]:
    """Cells of hyperplanes through the origin, with a point inside each."""
    k = len(rows[0])
    # A slice {c x = 1} meets every cell or its mirror image; c in general position is not needed for that, only that
    # no cell lies inside {c x = 0}, which has no interior.
    weights = [Fraction(2 * i + 3, 2 * i + 1) for i in range(k)]
    last = weights[-1]
    sliced = [tuple(row[i] - row[-1] * weights[i] / last for i in range(k - 1)) for row in rows]
    heights = [row[-1] / last for row in rows]
    cells: dict[Signs, Row] = {}
    for signs, point in exact_cells(sliced, heights, proceed).items():
        if 0 in signs:
            # A hyperplane equal to the slice's own direction cannot vanish on it: the slice misses the origin.
            raise ArithmeticError("a hyperplane through the origin contains a slice that misses it")
        whole = (*point, (1 - _dot(tuple(weights[:-1]), point)) / last)
        cells[signs] = whole
        cells[tuple(-s for s in signs)] = tuple(-x for x in whole)
    return cells


def _step(rows: Sequence[Row], values: Sequence[Fraction], vertex: Row, direction: Row) -> Row:
    """A point half-way to the first other hyperplane that the direction meets."""
    reach = Fraction(1)
    for row, value in zip(rows, values, strict=True):
        speed = _dot(row, direction)
        if value != 0 and speed != 0 and value / speed < 0:
            reach = min(reach, -value / speed / 2)
    return tuple(x + reach * u for x, u in zip(vertex, direction, strict=True))


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


def _dot(left: Row, right: Row) -> Fraction:
    return sum((a * b for a, b in zip(left, right, strict=True)), Fraction(0))


def _embed(point: Row, columns: Sequence[int], dimension: int) -> Row:
    whole = [Fraction(0)] * dimension
    for k, value in zip(columns, point, strict=True):
        whole[k] = value
    return tuple(whole)


def pivot_columns(rows: Sequence[Row]) -> list[int]:
    """Columns that span the column space, by elimination."""
    matrix = [list(row) for row in rows]
    pivots: list[int] = []
    top = 0
    for column in range(len(rows[0]) if rows else 0):
        lead = next((i for i in range(top, len(matrix)) if matrix[i][column] != 0), None)
        if lead is None:
            continue
        matrix[top], matrix[lead] = matrix[lead], matrix[top]
        for i in range(top + 1, len(matrix)):
            if matrix[i][column] != 0:
                factor = matrix[i][column] / matrix[top][column]
                matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[top], strict=True)]
        pivots.append(column)
        top += 1
    return pivots


def _solve(rows: Sequence[Row], right: Sequence[Fraction]) -> Row | None:
    """The solution of a square system, or None when it is singular."""
    k = len(rows)
    matrix = [[*row, value] for row, value in zip(rows, right, strict=True)]
    for column in range(k):
        lead = next((i for i in range(column, k) if matrix[i][column] != 0), None)
        if lead is None:
            return None
        matrix[column], matrix[lead] = matrix[lead], matrix[column]
        pivot = matrix[column][column]
        matrix[column] = [value / pivot for value in matrix[column]]
        for i in range(k):
            if i != column and matrix[i][column] != 0:
                factor = matrix[i][column]
                matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[column], strict=True)]
    return tuple(row[-1] for row in matrix)
