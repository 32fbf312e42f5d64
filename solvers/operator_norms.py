"""Operator norms ||W||_{a -> b} = max ||W x||_b over ||x||_a <= 1: exact where they are known, proved above elsewhere.

Exact: a = 1 (the longest column in l_b), b = inf (the longest row in l_{a'}), a = b = 2 (the largest singular value).
For other pairs computing the norm is NP-hard (Hendrickx and Olshevsky 2010), and upper bounds come from rows and
Hoelder's inequality, from comparing norms, and from Riesz-Thorin interpolation. All results are rounded upward.
"""

from __future__ import annotations

import math

import numpy as np

from solvers.norms import FloatArray, check_exponent, dual_exponent, vector_norm

__all__ = ["operator_norm_bound"]


def operator_norm_bound(matrix: FloatArray, source: float, target: float) -> float:
    """An upper bound of ||W||_{a -> b}, equal to it (up to rounding) for the exact pairs above.

    Args:
        matrix: W of shape (m, n).
        source: a, the exponent on R^n.
        target: b, the exponent on R^m.
    """
    a, b = check_exponent(source), check_exponent(target)
    w = np.asarray(matrix, dtype=np.float64)
    m, n = w.shape
    upward = 1 + (m + n + 16) * 2.0**-50
    columns = float(vector_norm(w, b, axis=0).max())  # ||W||_{1 -> b}
    rows = float(vector_norm(w, dual_exponent(a), axis=1).max())  # ||W||_{a -> inf}
    if a == 1:
        return columns * upward
    if math.isinf(b):
        return rows * upward
    spectral = float(np.linalg.svd(w, compute_uv=False)[0])
    if a == 2 and b == 2:
        return spectral * upward
    bounds = [
        float(vector_norm(vector_norm(w, dual_exponent(a), axis=1), b)),  # Hoelder, row by row
        columns * n ** (1 - _inverse(a)),  # ||x||_1 <= n^(1 - 1/a) ||x||_a
        rows * m ** _inverse(b),
        spectral * n ** max(0.0, 0.5 - _inverse(a)) * m ** max(0.0, _inverse(b) - 0.5),
    ]
    if a == b:
        bounds.append(_riesz_thorin(w, a, spectral))
    return min(bounds) * upward


def _inverse(exponent: float) -> float:
    return 0.0 if math.isinf(exponent) else 1 / exponent


def _riesz_thorin(w: FloatArray, p: float, spectral: float) -> float:
    """||W||_{p -> p} from the exact norms for 1, 2 and inf; log-convex in 1/p."""
    ends = {1.0: float(np.abs(w).sum(axis=0).max()), 0.5: spectral, 0.0: float(np.abs(w).sum(axis=1).max())}
    t = _inverse(p)
    best = math.inf
    for high, low in ((1.0, 0.5), (0.5, 0.0), (1.0, 0.0)):
        if low <= t <= high:
            weight = (t - low) / (high - low)
            best = min(best, ends[high] ** weight * ends[low] ** (1 - weight))
    return best
