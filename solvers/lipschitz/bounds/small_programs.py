"""Compiled linear programs over a small box, for the hundreds of thousands that branch and bound asks for.

    maximise c x  subject to  A x + b >= 0  and  low <= x <= high,

by the bounded dual simplex method on a dense dictionary: every corner of the box is dual feasible, so there is no first
phase, and a program with ten variables takes about ten microseconds where a call of a general solver takes hundreds.

Nothing the method says is trusted. It hands back multipliers y >= 0, and `proved_maximum` turns any y >= 0 into a
bound,

    c x <= max over the box of (c + y A) x + y b,

with rounding pushed outward (weak duality; for c = 0 and a negative value: Farkas). A point it hands back is checked by
whoever uses it.

Source: [Kob05, chapter 3] for the bounded dual method.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW
from solvers.lipschitz.bounds.lengths import length_of

__all__ = ["best_margin", "proved_maximum", "solve_program"]

PIVOT = 1e-9
FEASIBLE = 1e-10


# Long on purpose: one simplex step changes the dictionary, the bounds and both bases together.
@compiled
def solve_program(c, a, b, low, high, most, x, y, stop):  # type: ignore[no-untyped-def]
    """One program.

    Args:
        c: (k,); a: (m, k); b: (m,); low, high: (k,); most: pivots allowed.
        stop: (1,): not 0 once time is up; another thread may set it.
        x: (k,), filled with the maximiser; y: (m,), filled with multipliers (for an infeasible program: of Farkas).
    Returns:
        1 optimal, 0 infeasible, -1 undecided (too many pivots, or time is up).
    """
    m, k = a.shape
    table = a.copy()
    constant = b.copy()  # basic row i = constant[i] + table[i] . (nonbasic variables)
    reduced = c.copy()
    # Variables 0..k-1 are x, k..k+m-1 the slacks.
    nonbasic = np.arange(k)
    basic = np.arange(k, k + m)
    value = np.empty(k)
    for j in range(k):
        value[j] = high[j] if reduced[j] > 0.0 else low[j]
    status = -1
    for _ in range(most):
        if stop[0] != 0:
            break
        worst, row, to_low = FEASIBLE, -1, True
        for i in range(m):
            total = constant[i]
            for j in range(k):
                total += table[i, j] * value[j]
            v = basic[i]
            floor = low[v] if v < k else 0.0
            if floor - total > worst:
                worst, row, to_low = floor - total, i, True
            elif v < k and total - high[v] > worst:
                worst, row, to_low = total - high[v], i, False
        if row < 0:
            status = 1
            break
        flip = 1.0 if to_low else -1.0
        entering, best, size = -1, np.inf, 0.0
        for j in range(k):
            t = table[row, j] * flip
            v = nonbasic[j]
            at_high = v < k and value[j] == high[v] and value[j] != low[v]
            if (t > PIVOT and not at_high) or (t < -PIVOT and at_high):
                ratio = abs(reduced[j]) / abs(t)
                if ratio < best - 1e-12 or (ratio <= best + 1e-12 and abs(t) > size):
                    entering, best, size = j, min(ratio, best), abs(t)
        if entering < 0:
            for i in range(m):
                y[i] = 0.0
            if basic[row] >= k:
                y[basic[row] - k] = 1.0
            for j in range(k):
                if nonbasic[j] >= k:
                    y[nonbasic[j] - k] = max(0.0, -table[row, j] * flip)
            return 0
        # Pivot: the basic variable of `row` goes to the bound that it breaks.
        pivot = table[row, entering]
        leaving = basic[row]
        target = 0.0
        if leaving < k:
            target = low[leaving] if to_low else high[leaving]
        inverse = 1.0 / pivot
        for j in range(k):
            table[row, j] = -table[row, j] * inverse
        table[row, entering] = inverse
        constant[row] = -constant[row] * inverse
        for i in range(m):
            if i != row:
                factor = table[i, entering]
                if factor != 0.0:
                    for j in range(k):
                        if j == entering:
                            table[i, j] = factor * inverse
                        else:
                            table[i, j] += factor * table[row, j]
                    constant[i] += factor * constant[row]
        factor = reduced[entering]
        for j in range(k):
            if j == entering:
                reduced[j] = factor * inverse
            else:
                reduced[j] += factor * table[row, j]
        basic[row] = nonbasic[entering]
        nonbasic[entering] = leaving
        value[entering] = target
    for i in range(m):
        y[i] = 0.0
    for j in range(k):
        v = nonbasic[j]
        if v < k:
            x[v] = value[j]
        else:
            y[v - k] = max(0.0, -reduced[j])
    for i in range(m):
        if basic[i] < k:
            total = constant[i]
            for j in range(k):
                total += table[i, j] * value[j]
            x[basic[i]] = min(max(total, low[basic[i]]), high[basic[i]])
    return status


@compiled
def proved_maximum(c, offset, a, b, errors, low, high, y):  # type: ignore[no-untyped-def]
    """An upper bound of c x + offset over the program's points, from multipliers y >= 0; rounded upward, inf for NaN.

    Args:
        errors: (m,): how far the rows may be from the true functions anywhere in the box.
    """
    m, k = a.shape
    total, size = offset, abs(offset)
    for i in range(m):
        if y[i] > 0.0:
            total += y[i] * b[i]
            size += y[i] * abs(b[i])
            total += y[i] * errors[i]
            size += UNDERFLOW
    for j in range(k):
        slope, spread = c[j], abs(c[j])
        for i in range(m):
            if y[i] > 0.0:
                slope += y[i] * a[i, j]
                spread += abs(y[i] * a[i, j])
        total += slope * high[j] if slope > 0.0 else slope * low[j]
        size += spread * max(abs(low[j]), abs(high[j]))
    if size > 0.0:
        total += (m + k + 8) * 2.0 * EPSILON * size + UNDERFLOW
    return total if total == total else np.inf


@compiled
def _row_length(a, i):  # type: ignore[no-untyped-def]
    """||a_i||_2, above 0."""
    total = 0.0
    for j in range(a.shape[1]):
        total += a[i, j] * a[i, j]
    if 1e-280 < total < 1e280:
        return np.sqrt(total)
    return max(length_of(a[i], 2.0), 1e-300)


@compiled
def best_margin(a, b, errors, low, high, cap, x, y, stop):  # type: ignore[no-untyped-def]
    """How deep a point can lie inside {A x + b > 0} and the box: max e <= cap with A_i x + b_i >= e |A_i|.

    Args:
        x: (k,), filled with the deepest point; y: (m,), filled with multipliers of the rows as they were given.
    Returns:
        (margin, bound): the margin at x by float64, and a number that is certainly <= 0 only where no point satisfies
        all rows strictly; -inf margin where the program was not solved.
    """
    m, k = a.shape
    c = np.zeros(k + 1)
    c[k] = 1.0
    rows = np.empty((m, k + 1))
    lengths = np.empty(m)
    deepest = cap
    for i in range(m):
        lengths[i] = _row_length(a, i)
        least = b[i] / lengths[i]
        for j in range(k):
            rows[i, j] = a[i, j] / lengths[i]
            least += min(rows[i, j] * low[j], rows[i, j] * high[j])
        rows[i, k] = -1.0
        deepest = min(deepest, least)
    wide_low, wide_high = np.empty(k + 1), np.empty(k + 1)
    wide_low[:k] = low
    wide_high[:k] = high
    wide_low[k] = deepest - 1.0
    wide_high[k] = cap
    point = np.empty(k + 1)
    status = solve_program(c, rows, b / lengths, wide_low, wide_high, 50 + 20 * (m + k), point, y, stop)
    x[:] = point[:k]
    for i in range(m):
        y[i] /= lengths[i]
    margin = cap
    for i in range(m):
        total = b[i] / lengths[i]
        for j in range(k):
            total += rows[i, j] * x[j]
        margin = min(margin, total)
    bound = np.inf
    if margin < cap:
        bound = proved_maximum(np.zeros(k), 0.0, a, b, errors, low, high, y)
    if status != 1:
        margin = -np.inf
    return margin, bound
