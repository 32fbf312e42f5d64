"""The fewest rows whose union is that of all rows: a mixed-integer program, and a bound that whole numbers prove.

For weights y >= 0 of the points every cover has at least L(y) = sum_i y_i + sum_j min(0, 1 - sum of y_i over row j)
rows [Fisher81]. Subgradient steps and the linear relaxation make L large; it is then evaluated in whole numbers.
What the program itself says, that no smaller cover exists, is the solver's word up to its tolerances.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.program_backends import run_program
from solvers.bits.features import Words, unpack_words
from solvers.bits.firing import Whole
from solvers.interpolation.set_cover import greedy_cover, needed_rows

__all__ = ["choose_rows", "least_cover"]

# Weights are whole multiples of 1 / SCALE.
SCALE = 2**24
STEPS, PATIENCE = 600, 20
# Rows up to which those that lie within another one are looked for, and entries up to which a program is solved.
FEW_ROWS, MOST_ENTRIES = 4096, 2**21
# What the solver's bound may be off by; a cover has a whole number of rows.
TOLERANCE = 1e-6


def choose_rows(rows: Words, least: bool, seconds: float) -> tuple[Whole, int]:
    """A greedy cover of all that rows cover, or with `least` the best of `least_cover`; and how many any has at least.

    Returns:
        Rows in greedy order, or increasing; the bound is 0 for a greedy cover.
    """
    greedy = greedy_cover(rows, np.bitwise_or.reduce(rows, axis=0))
    greedy = greedy[needed_rows(rows[greedy])]
    return least_cover(rows, greedy, seconds) if least else (greedy, 0)


def least_cover(rows: Words, start: Whole, seconds: float) -> tuple[Whole, int]:
    """A cover with as few rows as was found, and how many every cover has at least.

    Args:
        rows: (C, words), the bits of each row.
        start: rows that cover all that any rows do; the answer has no more.
        seconds: for the program. Where they are too few, or the program is too large, the answer may be `start`; for
            enough of them it does not depend on the machine.
    """
    places, matrix = _essential(rows)
    if not matrix.size:
        return start, 0
    at_least, reduced = _bound(matrix, len(start), seconds)
    if at_least >= len(start) or matrix.sum() > MOST_ENTRIES:
        return start, at_least
    # A cover below len(start) takes no row whose reduced cost lifts the bound to len(start).
    able = np.flatnonzero(reduced < len(start) - 1 + TOLERANCE)
    found, proved = _program(matrix[able], len(start), seconds)
    best = start if found is None else places[able[found]]
    return best, max(at_least, min(proved, len(best)))


def _essential(rows: Words) -> tuple[Whole, NDArray[np.bool_]]:
    """Which rows a least cover can be taken from, and those rows (R, points) with points that differ alone."""
    bits = unpack_words(rows, rows.shape[1] * 64)
    columns = np.unique(bits[:, bits.any(axis=0)], axis=1)
    places = np.sort(np.unique(columns, axis=0, return_index=True)[1])
    places = places[columns[places].any(axis=1)]
    kept = columns[places]
    if len(kept) <= FEW_ROWS:
        numbers = kept.astype(np.float32)
        within = numbers @ numbers.T == numbers.sum(axis=1)[:, None]
        np.fill_diagonal(within, False)
        outer = ~within.any(axis=1)
        places, kept = places[outer], kept[outer]
    return places.astype(np.int64), np.unique(kept, axis=1)


def _bound(matrix: NDArray[np.bool_], size: int, seconds: float) -> tuple[int, FloatArray]:
    """How many rows every cover has at least, and per row how many every cover with it has, as far as L(y) knows.

    Args:
        matrix: (R, points). size: of a known cover, towards which the steps aim.
        seconds: for the linear relaxation, whose dual is the best y there is.
    """
    from scipy.sparse import csr_array

    sparse: Any = csr_array(matrix.astype(np.int64))
    across = sparse.T.tocsr()
    # A point weighs 1 / the largest row that has it: no row weighs more than 1.
    weights = 1.0 / np.maximum.reduceat(matrix.sum(axis=1)[across.indices], across.indptr[:-1])
    best, kept, pace, waited = -math.inf, weights, 1.0, 0
    for _ in range(STEPS):
        costs = 1.0 - sparse @ weights
        taken = costs < 0
        value = float(weights.sum() + costs[taken].sum())
        if value > best + 1e-6:
            best, kept, waited = value, weights, 0
        else:
            waited += 1
            if waited == PATIENCE:
                pace, waited, weights = pace / 2, 0, kept
                continue
        slope = 1.0 - across @ taken.astype(np.float64)
        length = float(slope @ slope)
        if length == 0 or math.ceil(best - TOLERANCE) >= size:
            break
        weights = np.maximum(0.0, weights + pace * max(size - value, 0.1) / length * slope)
    total, costs = _value(sparse, kept)
    if -(-total // SCALE) < size:
        total, costs = max((total, costs), _value(sparse, _relaxed(across, seconds)), key=lambda pair: pair[0])
    return -(-total // SCALE), (total + np.maximum(costs, 0)) / SCALE


def _value(sparse: Any, weights: FloatArray) -> tuple[int, Whole]:
    """SCALE L(y) and SCALE (1 - sum of y over each row) for weights rounded down, in whole numbers."""
    whole = np.floor(np.clip(weights, 0.0, 1.0) * SCALE).astype(np.int64)
    costs = SCALE - sparse @ whole
    return int(whole.sum()) + int(np.minimum(costs, 0).sum()), costs


def _relaxed(across: Any, seconds: float) -> FloatArray:
    """Dual weights of the points in the linear relaxation; zeros where the time does not suffice."""
    from scipy.optimize import linprog

    points, rows = across.shape
    options = {"time_limit": seconds}
    answer = linprog(
        np.ones(rows), A_ub=-across, b_ub=-np.ones(points), bounds=(0, None), method="highs", options=options
    )
    return np.asarray(-answer.ineqlin.marginals) if answer.status == 0 else np.zeros(points)


def _program(matrix: NDArray[np.bool_], size: int, seconds: float) -> tuple[Whole | None, int]:
    """Rows of a cover with fewer than `size` rows, None without one; and how many every cover has at least."""
    import cvxpy as cp
    from scipy.sparse import csr_array

    if not matrix.any(axis=0).all():
        return None, size
    taken = cp.Variable(len(matrix), boolean=True)
    number = np.ones(len(matrix)) @ taken
    across = csr_array(matrix.T.astype(np.float64))
    # The known cover is handed over as what has to be beaten.
    fewer = [across @ taken >= 1, number <= size - 1]
    answer = run_program(cp.Problem(cp.Maximize(-number), fewer), "HIGHS", seconds, None, TOLERANCE)
    if answer.finished and not answer.found:
        return None, size
    at_least = 0 if math.isinf(answer.bound) else math.ceil(-answer.bound - TOLERANCE)
    if not answer.found:
        return None, at_least
    found = np.flatnonzero(np.asarray(taken.value) > 0.5)
    covers = len(found) < size and matrix[found].any(axis=0).all()
    return (found if covers else None), at_least
