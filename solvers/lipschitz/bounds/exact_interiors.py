"""A point strictly inside a polytope, or a proof that there is none, in rational arithmetic.

    maximise e  subject to  a_i x + b_i >= e s_i  and  x in the box

with s_i the size of row i: above 0 there is a point with room, at most 0 the multipliers of the optimum are a proof
(Farkas). Rows enter the program only where the optimum so far breaks them, and few do.

Source: [Kob05, chapter 3] for the bounded dual simplex method, with the smallest-index rule against cycling.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from solvers.arithmetic.norms import FloatArray

__all__ = ["point_or_proof"]

# Steps of one program, and rows times inputs in it, before a polytope is left undecided.
MOST_PIVOTS, MOST_ENTRIES = 400, 4000

# k slopes and a constant.
Row: TypeAlias = Sequence[Fraction]
# Rows with multipliers y >= 0, not all 0, such that y (A x + b) <= 0 all over the box.
Proof: TypeAlias = list[tuple[int, Fraction]]


def point_or_proof(
    rows: Sequence[Row], low: FloatArray, high: FloatArray, start: Sequence[int] = ()
) -> tuple[list[Fraction] | None, Proof | None]:
    """A point strictly inside the box where all rows are > 0, or exact multipliers that show that there is none.

    Args:
        rows: k slopes and the constant of each. One that vanishes identically cuts nothing.
        low, high: (k,), the box, which has an interior.
        start: rows that may be in a proof.
    Returns:
        One of the two; (None, None) where the program is too long.
    """
    k = len(low)
    corner = [Fraction(v) for v in low.tolist()]
    width = [Fraction(v) - a for v, a in zip(high.tolist(), corner, strict=True)]
    scaled: dict[int, list[Fraction]] = {}
    sizes: dict[int, Fraction] = {}
    for i, row in enumerate(rows):
        slopes = [a * w for a, w in zip(row[:-1], width, strict=True)]
        size = max(map(abs, slopes), default=Fraction(0))
        if size == 0:
            if row[-1] < 0:
                return None, [(i, Fraction(1))]
            continue
        constant = row[-1] + sum((a * x for a, x in zip(row[:-1], corner, strict=True)), Fraction(0))
        unit = _power_near(size)
        scaled[i], sizes[i] = [*(a / unit for a in slopes), constant / unit], unit
    used = [i for i in start if i in scaled] or list(scaled)[:1]
    while True:
        if len(used) * (k + 1) > MOST_ENTRIES:
            return None, None
        answer = _deepest([scaled[i] for i in used], k)
        if answer is None:
            return None, None
        depth, at, multipliers = answer
        if depth <= 0:
            return None, [(i, y / sizes[i]) for i, y in zip(used, multipliers, strict=True) if y]
        values = {i: _value(row, at) for i, row in scaled.items()}
        broken = sorted((v, i) for i, v in values.items() if 2 * v < depth and i not in used)
        if not broken:
            inside = _off_the_faces(scaled, values, at)
            return [a + w * x for a, w, x in zip(corner, width, inside, strict=True)], None
        used += [i for _, i in broken[: k + 1]]


def _power_near(value: Fraction) -> Fraction:
    """A power of two within a factor 2 of a positive number."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    return Fraction(2**exponent) if exponent >= 0 else Fraction(1, 2**-exponent)


def _value(row: Row, point: Sequence[Fraction]) -> Fraction:
    return sum((a * x for a, x in zip(row[:-1], point, strict=True)), row[-1])


def _off_the_faces(rows: dict[int, list[Fraction]], values: dict[int, Fraction], at: list[Fraction]) -> list[Fraction]:
    """The point moved towards the middle of the unit box, at the price of at most half of any value."""
    half = Fraction(1, 2)
    share = half
    for i, row in rows.items():
        fall = values[i] - _value(row, [half] * len(at))
        if fall > 0:
            share = min(share, values[i] / (2 * fall))
    return [x + share * (half - x) for x in at]


def _deepest(rows: Sequence[Row], k: int) -> tuple[Fraction, list[Fraction], list[Fraction]] | None:
    """The largest e <= 1 with all rows >= e somewhere in the unit box; such a point, and the multipliers of the rows.

    Every corner of the box is dual feasible, so there is no first phase. None if there are too many pivots.
    """
    zero, one = Fraction(0), Fraction(1)
    least = min([one, *(row[-1] + sum((min(a, zero) for a in row[:-1]), zero) for row in rows)]) - 1
    low, high = [*[zero] * k, least], [one] * (k + 1)
    table = [[*row[:-1], -one] for row in rows]
    constant = [row[-1] for row in rows]
    reduced = [*[zero] * k, one]
    # Variables 0..k-1 are x, k is e, those behind it the slacks of the rows.
    nonbasic, basic = list(range(k + 1)), list(range(k + 1, k + 1 + len(rows)))
    value = [*[zero] * k, one]
    for _ in range(MOST_PIVOTS):
        totals = [
            c + sum((a * x for a, x in zip(line, value, strict=True) if x), zero)
            for c, line in zip(constant, table, strict=True)
        ]
        row, flip = -1, 1
        for i in sorted(range(len(basic)), key=basic.__getitem__):
            v = basic[i]
            if totals[i] < (low[v] if v <= k else 0):
                row, flip = i, 1
                break
            if v <= k and totals[i] > high[v]:
                row, flip = i, -1
                break
        if row < 0:
            point, multipliers = [zero] * (k + 1), [zero] * len(rows)
            for j, v in enumerate(nonbasic):
                if v <= k:
                    point[v] = value[j]
                else:
                    multipliers[v - k - 1] = -reduced[j]
            for i, v in enumerate(basic):
                if v <= k:
                    point[v] = totals[i]
            return point[k], point[:k], multipliers
        entering = -1
        for j in sorted(range(k + 1), key=nonbasic.__getitem__):
            t, v = table[row][j] * flip, nonbasic[j]
            at_high = v <= k and value[j] == high[v]
            if (t < 0 if at_high else t > 0) and (
                entering < 0 or abs(reduced[j] * table[row][entering]) < abs(reduced[entering] * table[row][j])
            ):
                entering = j
        if entering < 0:
            raise ArithmeticError("a program that every point solves has no solution")
        leaving = basic[row]
        target = zero if leaving > k else (low[leaving] if flip > 0 else high[leaving])
        inverse = 1 / table[row][entering]
        pivot = [-a * inverse for a in table[row]]
        pivot[entering] = inverse
        shift = -constant[row] * inverse
        for i, line in enumerate(table):
            factor = line[entering]
            if i != row and factor:
                constant[i] += factor * shift
                line[entering] = zero
                table[i] = [a + factor * b for a, b in zip(line, pivot, strict=True)]
        factor, reduced[entering] = reduced[entering], zero
        reduced = [a + factor * b for a, b in zip(reduced, pivot, strict=True)]
        table[row], constant[row] = pivot, shift
        basic[row], nonbasic[entering], value[entering] = nonbasic[entering], leaving, target
    return None
