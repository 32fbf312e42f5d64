"""The largest eigenvalue of a matrix, as an estimate to be proved by whoever uses it."""

from __future__ import annotations

import contextlib
import math

import numpy as np
from scipy.linalg import eigvalsh
from scipy.sparse.linalg import ArpackError, eigsh

from solvers.arithmetic.norms import FloatArray

__all__ = ["estimated_eigenvalue"]

# Sides up to which all eigenvalues are computed; beyond, the largest is estimated to this share of it.
MOST_EIGENVALUES, CLOSE = 400, 1e-11


def estimated_eigenvalue(matrix: FloatArray) -> float:
    """Of a positive semidefinite matrix (n, n); inf where an entry is not finite."""
    side = len(matrix)
    if not np.isfinite(matrix).all():
        return math.inf
    if side > MOST_EIGENVALUES:
        with contextlib.suppress(ArpackError):  # it did not converge: all of them, then
            found = eigsh(matrix, 1, which="LA", v0=np.ones(side), tol=CLOSE, return_eigenvectors=False)
            return max(float(found[0]), 0.0)
    return max(float(eigvalsh(matrix, subset_by_index=[side - 1, side - 1])[0]), 0.0)
