"""Linear programs over a small box in rational arithmetic, and which half-spaces of a polytope are facets.

Written for checkers: short, exact, slow. Hundreds of half-spaces in a few dimensions are its limit.

Sources: [Kob05, chapter 3] for the bounded dual simplex method, with the smallest-index rule against cycling; [Cla94]
for the search of facets by programs on those that are known already.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

__all__ = ["facet_points", "value_at"]

MOST_PIVOTS = 5_000
# Interior points from which to look at a facet before it is given up: two of them may be met at once from one point.
TRIES = 40

# k slopes and a constant, as an affine function on R^k.
Row = Sequence[Fraction]


def value_at(row: Row, point: Sequence[Fraction]) -> Fraction:
    """Of an affine function at a point (k,)."""
    return sum((a * x for a, x in zip(row[:-1], point, strict=True)), row[-1])


def facet_points(
    rows: Sequence[Row], low: Sequence[Fraction], high: Sequence[Fraction], inside: Sequence[Fraction]
) -> dict[int, list[Fraction]]:
    """The facets of {x in the box : all rows >= 0}, each with a point on it where all other rows are positive.

    Args:
        rows: different half-spaces, none of them constant or a multiple of another.
        low, high: (k,), the box; its faces are no facets here.
        inside: (k,), strictly inside everything.
    Returns:
        Index of a row -> a point in the relative interior of its facet, strictly inside the box. A row that is missing
        is never 0 where all others are >= 0, or on a set of lower dimension only.
    Raises:
        ArithmeticError: two facets could not be told apart, or a program took too many steps.
    """
    found: dict[int, list[Fraction]] = {}
    draw = np.random.default_rng(0)
    for target in range(len(rows)):
        tries = 0
        while target not in found:
            known = [rows[i] for i in found]
            lowest = _lowest(rows[target], known, low, high)
            if lowest is None:
                break
            start = list(inside)
            if tries:
                step = [Fraction(int(v), 64 << tries) for v in draw.integers(-32, 33, len(low))]
                start = [x + s * min(x - a, b - x) for x, s, a, b in zip(inside, step, low, high, strict=True)]
            hit = _first_hit(rows, start, lowest)
            if hit is not None:
                found[hit[0]] = hit[1]
                continue
            tries += 1
            if tries > TRIES:
                raise ArithmeticError("two facets of a region cannot be told apart")
    return found


def _first_hit(
    rows: Sequence[Row], start: Sequence[Fraction], end: Sequence[Fraction]
) -> tuple[int, list[Fraction]] | None:
    """The one row that vanishes first on the way; None if the start is not inside or two vanish at once."""
    first, share, single = -1, Fraction(2), True
    for i, row in enumerate(rows):
        here, there = value_at(row, start), value_at(row, end)
        if here <= 0:
            return None
        if there < 0:
            t = here / (here - there)
            if t < share:
                first, share, single = i, t, True
            elif t == share:
                single = False
    if first < 0 or not single:
        return None
    return first, [x + share * (y - x) for x, y in zip(start, end, strict=True)]


def _lowest(
    target: Row, rows: Sequence[Row], low: Sequence[Fraction], high: Sequence[Fraction]
) -> list[Fraction] | None:
    """A point of {x in the box : all rows >= 0} where the target is lowest; None where it is >= 0 all over."""
    k = len(low)
    table = [list(row[:-1]) for row in rows]
    constant = [row[-1] for row in rows]
    reduced = [-a for a in target[:-1]]
    nonbasic, basic = list(range(k)), list(range(k, k + len(rows)))
    value = [high[j] if reduced[j] > 0 else low[j] for j in range(k)]
    for _ in range(MOST_PIVOTS):
        totals = [
            c + sum(a * x for a, x in zip(line, value, strict=True)) for c, line in zip(constant, table, strict=True)
        ]
        row, flip = -1, 1
        for i in sorted(range(len(basic)), key=basic.__getitem__):
            v = basic[i]
            if totals[i] < (low[v] if v < k else 0):
                row, flip = i, 1
                break
            if v < k and totals[i] > high[v]:
                row, flip = i, -1
                break
        if row < 0:
            x = [Fraction(0)] * k
            for v, amount in [*zip(nonbasic, value, strict=True), *zip(basic, totals, strict=True)]:
                if v < k:
                    x[v] = amount
            return x if value_at(target, x) < 0 else None
        entering = -1
        for j in sorted(range(k), key=nonbasic.__getitem__):
            t, v = table[row][j] * flip, nonbasic[j]
            at_high = v < k and value[j] == high[v]
            if (t < 0 if at_high else t > 0) and (
                entering < 0 or abs(reduced[j]) / abs(t) < abs(reduced[entering]) / abs(table[row][entering])
            ):
                entering = j
        if entering < 0:
            raise ArithmeticError("a region with a point inside has no points")
        leaving = basic[row]
        target_value = Fraction(0) if leaving >= k else (low[leaving] if flip > 0 else high[leaving])
        inverse = 1 / table[row][entering]
        pivot = [-a * inverse for a in table[row]]
        pivot[entering] = inverse
        shift = -constant[row] * inverse
        for i in range(len(table)):
            factor = table[i][entering]
            if i != row and factor:
                constant[i] += factor * shift
                table[i] = [
                    factor * p if j == entering else a + factor * p
                    for j, (a, p) in enumerate(zip(table[i], pivot, strict=True))
                ]
        factor = reduced[entering]
        reduced = [
            factor * p if j == entering else a + factor * p for j, (a, p) in enumerate(zip(reduced, pivot, strict=True))
        ]
        table[row], constant[row] = pivot, shift
        basic[row], nonbasic[entering], value[entering] = nonbasic[entering], leaving, target_value
    raise ArithmeticError("a program of a region took too many steps")
