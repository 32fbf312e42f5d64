"""Replays lists of cells of shallow networks: every cell is where it is said to be, and their number is that of all.

The kinks of f(x) = sum_j v_j relu(w_j x + b_j) + const are hyperplanes in R^d. Every cell listed has a point strictly
inside and a gradient no longer than the bound; no cell is listed twice; and there are as many as the hyperplanes cut
R^d into, counted by deletion and restriction in rational arithmetic. So none is missing, whatever the position of the
hyperplanes. What bounds f on R^d bounds it on every part of it.

Source: [Zas75], r(A) = r(A without H) + r(A restricted to H).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from solvers.arithmetic.rationals import exact_dual, norm_at_most
from solvers.checkers._base import Check
from solvers.problems.questions import LipschitzProblem
from solvers.problems.witnesses import exact_gradient

__all__ = ["check_shallow_cells", "count_cells"]

SUBJECT = "upper bound"

# Slopes and a constant: an affine function, up to a factor.
Row: TypeAlias = tuple[Fraction, ...]


def count_cells(rows: Sequence[Row], most: int) -> int:
    """Into how many cells hyperplanes {a x + b = 0} cut R^k; some number above `most` where there are more.

    Args:
        rows: (a, b) in R^(k + 1) with a != 0, no two of them multiples of each other.
        most: where counting may stop.
    """
    if not rows or len(rows[0]) == 2:  # nothing, or points on a line
        return len(rows) + 1
    total = 1
    for i, row in enumerate(rows):
        total += count_cells(_restricted(rows[:i], row), most - total)
        if total > most:
            break
    return total


def _restricted(rows: Sequence[Row], to: Row) -> list[Row]:
    """What the hyperplanes cut out of another one, in the coordinates but the first that it depends on."""
    pivot = next(k for k, a in enumerate(to) if a)
    found: dict[Row, None] = {}
    for row in rows:
        factor = row[pivot] / to[pivot]
        rest = tuple(a - factor * c for k, (a, c) in enumerate(zip(row, to, strict=True)) if k != pivot)
        if any(rest[:-1]):
            found.setdefault(_normalised(rest))
    return list(found)


def _normalised(row: Row) -> Row:
    lead = next(a for a in row if a)
    return tuple(a / lead for a in row)


def check_shallow_cells(problem: LipschitzProblem, data: Mapping[str, Any], upper: float) -> Check:
    """Whether the cells listed are all there are, and none has a gradient longer than `upper`."""
    try:
        reason = _missing(problem, data["points"], data["patterns"], upper)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        reason = f"the list of cells cannot be replayed: {error!r}"
    if reason is not None:
        return Check(SUBJECT, False, reason)
    count = len(data["points"])
    return Check(SUBJECT, True, f"{count} cells, as many as there are, and no gradient among them is longer")


def _missing(problem: LipschitzProblem, points: Any, patterns: Any, upper: float) -> str | None:
    """Why the list proves nothing; None if it proves the bound."""
    network = problem.network
    if network.depth != 1:
        return f"a list of cells is about networks with one hidden layer, this one has {network.depth}"
    kinks, q = _kinks(problem), exact_dual(problem.p)
    if len(points) != len(patterns):
        return f"there must be as many points as patterns, got {len(points)} and {len(patterns)}"
    seen: set[str] = set()
    for number, (coordinates, pattern) in enumerate(zip(points, patterns, strict=True)):
        point = np.array(coordinates, dtype=np.float64)
        if point.shape != (network.input_dimension,) or not np.isfinite(point).all():
            return f"cell {number}: the point must have {network.input_dimension} finite coordinates"
        if len(pattern) != network.widths[0] or set(pattern) - {"0", "1"}:
            return f"cell {number}: the pattern must have {network.widths[0]} digits 0 and 1"
        gradient = exact_gradient(network, point, (np.array([digit == "1" for digit in pattern]),))
        if isinstance(gradient, str):
            return f"cell {number}: {gradient}"
        if not norm_at_most(gradient, q, upper):
            return f"cell {number} has a gradient that is longer than the upper bound {upper!r}"
        seen.add("".join(pattern[j] for j in kinks.values()))
    if len(seen) < len(points):
        return f"{len(points) - len(seen)} of the cells listed are listed twice"
    if count_cells(list(kinks), len(seen)) != len(seen):
        return f"{len(seen)} cells are listed, which is not the number that the kinks cut R^d into"
    return None


def _kinks(problem: LipschitzProblem) -> dict[Row, int]:
    """The different hyperplanes where the gradient jumps, each with a neuron that switches there."""
    network = problem.network
    rows = zip(network.weights[0].tolist(), network.biases[0].tolist(), network.weights[-1][0].tolist(), strict=True)
    first: dict[Row, int] = {}
    jumps: dict[Row, Fraction] = {}
    for j, (w, b, v) in enumerate(rows):
        if any(w):
            row = (*map(Fraction, w), Fraction(b))
            plane = _normalised(row)
            first.setdefault(plane, j)
            # Active on the positive side of the normalised row or on the other: the jump towards it is v |lead| a.
            jumps[plane] = jumps.get(plane, Fraction(0)) + Fraction(v) * abs(next(a for a in row if a))
    return {plane: j for plane, j in first.items() if jumps[plane]}
