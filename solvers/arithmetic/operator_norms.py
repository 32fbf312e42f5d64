"""Operator norms ||W||_{a -> b} = max ||W x||_b over ||x||_a <= 1: exact where they are known, proved above elsewhere.

Exact: a = 1 (the longest column in l_b), b = inf (the longest row in l_{a'}), a = b = 2 (the largest singular value).
For other pairs computing the norm is NP-hard [HO10], and upper bounds come from rows and
Hoelder's inequality, from comparing norms, and from Riesz-Thorin interpolation. All results are rounded upward, by
enough that `solvers.checkers.norm_product` can prove them again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from solvers.arithmetic.norms import FloatArray, check_exponent, dual_exponent, vector_norm
from solvers.arithmetic.rounding import EPSILON

__all__ = ["OperatorNorms", "spectral_bound"]


@dataclass(slots=True, eq=False)
class OperatorNorms:
    """Upper bounds of ||W||_{a -> b} for many pairs (a, b): lengths of rows and columns are computed once each.

    Attributes:
        matrix: W of shape (m, n).
        spectral: `spectral_bound(matrix)` where it is known already: it takes nearly all of the time.
    """

    matrix: FloatArray
    spectral: float | None = None
    _known: dict[tuple[float, int], FloatArray] = field(default_factory=dict)

    def bound(self, source: float, target: float) -> float:
        """An upper bound of ||W||_{a -> b}, equal to it (up to rounding) for the exact pairs above.

        Args:
            source: a, the exponent on R^n.
            target: b, the exponent on R^m.
        """
        return min(self.rules(source, target).values())

    def rules(self, source: float, target: float) -> dict[str, float]:
        """Upper bounds of ||W||_{a -> b} by the rule that proves each.

        "columns": the longest column in l_b, and ||x||_1 <= n^(1 - 1/a) ||x||_a. "rows": the longest row in l_{a'}, and
        ||y||_b <= m^(1/b) ||y||_inf. "spectral": the largest singular value, norms compared likewise. "hoelder": the
        rows in l_{a'}, their lengths in l_b. "one-two", "two-inf", "one-inf" (a = b): log-convexity in 1/a between
        these norms (Riesz-Thorin).

        Args:
            source, target: as for `bound`. A pair with an exact rule has that one alone.
        """
        a, b = check_exponent(source), check_exponent(target)
        m, n = self.matrix.shape
        upward = 1 + (m + n + 16) * 4 * EPSILON
        if a == 1:
            return {"columns": self._longest(b, 0) * upward}  # ||W||_{1 -> b}
        if math.isinf(b):
            return {"rows": self._longest(dual_exponent(a), 1) * upward}  # ||W||_{a -> inf}
        if self.spectral is None:
            self.spectral = spectral_bound(self.matrix)
        if a == 2 and b == 2:
            return {"spectral": self.spectral}
        columns, rows = self._longest(b, 0) * upward, self._longest(dual_exponent(a), 1) * upward
        found = {
            "hoelder": float(vector_norm(self._lengths(dual_exponent(a), 1), b)) * upward,
            "columns": columns * n ** (1 - _inverse(a)) * upward,
            "rows": rows * m ** _inverse(b) * upward,
            "spectral": self.spectral * n ** max(0.0, 0.5 - _inverse(a)) * m ** max(0.0, _inverse(b) - 0.5) * upward,
        }
        if a == b:
            t = _inverse(a)
            ends = {"one": (1.0, self._longest(1.0, 0)), "two": (0.5, self.spectral)}
            ends["inf"] = (0.0, self._longest(1.0, 1))
            for high, low in (("one", "two"), ("two", "inf"), ("one", "inf")):
                (start, longer), (end, shorter) = ends[high], ends[low]
                if end <= t <= start:
                    weight = (t - end) / (start - end)
                    found[f"{high}-{low}"] = longer**weight * shorter ** (1 - weight) * upward
        return found

    def _longest(self, exponent: float, axis: int) -> float:
        return float(self._lengths(exponent, axis).max())

    def _lengths(self, exponent: float, axis: int) -> FloatArray:
        """Of the columns (axis 0) or rows (axis 1) in l_q."""
        if (exponent, axis) not in self._known:
            self._known[exponent, axis] = vector_norm(self.matrix, exponent, axis=axis)
        return self._known[exponent, axis]


# Side of a corner on which a decomposition is timed, and how much slower than by counting a whole matrix may be.
CORNER, OUT_OF_CACHE = 128, 4.0
# Above an estimate of the largest singular value, relatively, and how often the distance is tried ten times as far.
STEP, STEPS = 0.01, 3


def spectral_bound(matrix: FloatArray, seconds: float = math.inf) -> float:
    """A proved bound of the largest singular value: itself rounded upward, or within some seconds, what they allow.

    Tried in order: the singular values; an estimate that a Cholesky decomposition proves, about 1 % above; the
    Frobenius norm or the geometric mean of the norms for l_1 and l_inf.
    """
    if math.isinf(seconds) or _expected_seconds(_largest_singular_value, matrix) <= seconds:
        return _largest_singular_value(matrix)
    rough = _rough_bound(matrix)
    if _expected_seconds(_bound_by_cholesky, matrix) <= seconds:
        return min(rough, _bound_by_cholesky(matrix))
    return rough


def _expected_seconds(work: Callable[[FloatArray], float], matrix: FloatArray) -> float:
    """How long a decomposition takes, from a corner of the matrix; 0 if there is nothing beside the corner."""
    m, n = matrix.shape
    if min(m, n) <= CORNER:
        return 0.0
    start = time.perf_counter()
    work(matrix[:CORNER, :CORNER])
    return OUT_OF_CACHE * (time.perf_counter() - start) * (m / CORNER) * (n / CORNER) * (min(m, n) / CORNER)


def _rough_bound(matrix: FloatArray) -> float:
    upward = 1 + (sum(matrix.shape) + 16) * 4 * EPSILON
    sizes = np.abs(matrix)
    mean = math.sqrt(float(sizes.sum(axis=0).max())) * math.sqrt(float(sizes.sum(axis=1).max()))
    return min(mean, float(vector_norm(matrix.ravel(), 2.0)) * (1 + matrix.size * EPSILON)) * upward


def _bound_by_cholesky(matrix: FloatArray) -> float:
    """c with c^2 I - W W^T positive definite, which a Cholesky decomposition that ends shows; inf where none does.

    Source: [Rump06, theorem 2.3]; with k rows of n entries rounding hides at most 4 k (k + n + 16) units of c^2.
    """
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    k, n = short.shape
    largest = float(np.abs(matrix).max())
    if not 0 < largest < math.inf:
        return largest
    unit = math.ldexp(1.0, math.frexp(largest)[1])
    short = short / unit
    gram = short @ short.T
    v = np.ones(k)
    for _ in range(30):
        v = gram @ (v / np.linalg.norm(v))
    square = float(np.linalg.norm(v))
    for step in range(STEPS):
        raised = square * (1 + STEP * 10**step) ** 2
        try:
            np.linalg.cholesky(raised * np.eye(k) - gram)
        except np.linalg.LinAlgError:
            continue
        return math.sqrt(raised * (1 + 4 * k * (k + n + 16) * EPSILON)) * unit * (1 + 4 * EPSILON)
    return math.inf


def _largest_singular_value(matrix: FloatArray) -> float:
    """Rounded upward by more than a proof in float64 arithmetic loses.

    That proof is a Cholesky decomposition of the Gram matrix of the shorter side k: it loses 2 k (m + n) units in the
    last place of the square [Rump06, theorem 2.3].
    """
    m, n = matrix.shape
    return float(np.linalg.svd(matrix, compute_uv=False)[0]) * (1 + (4 * min(m, n) * (m + n) + 64) * EPSILON)


def _inverse(exponent: float) -> float:
    return 0.0 if math.isinf(exponent) else 1 / exponent
