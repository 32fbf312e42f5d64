"""Points deep inside a polytope in a box, compiled."""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.lipschitz.bounds.small_programs import best_margin

__all__ = ["deep_point"]


@compiled
def deep_point(a, b, errors, low, high, stop):  # type: ignore[no-untyped-def]
    """A deep point of {A x + b > 0} strictly inside the box, its margin, a proved bound on margins, multipliers."""
    k = len(low)
    x, y = 0.5 * (low + high), np.zeros(len(b))
    cap = 0.1 * np.min(high - low)
    if len(b) == 0:
        return cap, np.inf, x, y
    middle = x.copy()
    margin, bound = best_margin(a, b, errors, low, high, cap, x, y, stop)
    if margin > 0.0:
        # Away from the faces, at the price of at most half the margin.
        share = 0.25
        for i in range(len(b)):
            at_middle, at_x, length = b[i], b[i], 0.0
            for j in range(k):
                at_middle += a[i, j] * middle[j]
                at_x += a[i, j] * x[j]
                length += a[i, j] * a[i, j]
            if at_middle < at_x:
                share = min(share, max(0.0, at_x - 0.5 * margin * np.sqrt(length)) / (at_x - at_middle))
        x += share * (middle - x)
        margin *= 0.5
    return margin, bound, x, y
