"""Proves a Lipschitz bound from multipliers, whatever they are: one Cholesky decomposition a layer, rounded outward.

For a free neuron z (a - z) >= 0, so for multipliers lambda >= 0, from the last layer to the first,

    z'H z <= z'H z + 2 sum lambda_i z_i (a_i - z_i) <= max over free z of it
           = y' (G' Y^-1 G + K) y,   Y = 2 Lambda - H_uu > 0,  G = Lambda W_u + H_ua W_a,  K = W_a' H_aa W_a,

with y the layer below, u the free and a the active neurons. At the inputs diag(t) >= H gives |f(x) - f(x')|^2 <=
sum t_k (x_k - x'_k)^2, so Lip_p <= sqrt ||t||_{p / (p - 2)} for p >= 2 (p = 2: the largest t_k).

Rounding. Let R be the computed Cholesky factor of Y with its diagonal lowered, B the computed solution of R'B = G. Then
[R B]'[R B] >= 0 exactly, and what the true matrix [[Y, G], [G', H']] has beyond it is at most gamma d_i d_j entry by
entry, d the lengths of the columns of R and B. By 2 x_i x_j d_i d_j <= x_i^2 d_i^2 + x_j^2 d_j^2 the diagonals pay for
it: Y is lowered, and H' raised, by a few n gamma d_i^2. Products with active neurons add kappa_j = sum_k sqrt(H_kk)
|W_kj| to d_j, for |H_kl| <= sqrt(H_kk H_ll). Every constant below is at least twice what the theorems ask for.

Sources: Fazlyab et al. 2019 (multipliers); Xu and Sivaranjani 2024 (elimination layer by layer); Rump 2006, theorem
2.3, and Higham 2002, theorems 8.5 and 10.3, for the rounding of Cholesky decompositions and triangular systems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigvalsh, solve_triangular
from scipy.sparse.linalg import LinearOperator, eigsh

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.rounding import UNIT_ROUNDOFF
from solvers.lipschitz.bounds.slope_layers import SlopeLayers

__all__ = ["lipschitz_from_diagonal", "proved_columns", "proved_diagonal"]

# Sizes that the entries must keep to, relative to the largest: far from where products underflow.
LEAST, MOST = 1e-120, 1e120
# Sides up to which all eigenvalues are computed; beyond, only the largest is estimated.
MOST_EIGENVALUES = 800


def proved_diagonal(layers: SlopeLayers, multipliers: Sequence[FloatArray], shape: FloatArray) -> FloatArray | None:
    """t, a multiple of `shape`, with |f(x) - f(x')|^2 <= sum_k t_k (x_k - x'_k)^2 for certain; None where not proved.

    Args:
        layers: the slopes, at least one layer.
        multipliers: lambda of the free neurons, per hidden layer, >= 0.
        shape: (d,), positive.
    """
    h = _above_inputs(layers, multipliers)
    if h is None:
        return None
    w, free = layers.weights[0], layers.free[0]
    if free == len(w) and free < layers.inputs:
        return _wide_inputs(h, w, multipliers[0], shape)
    last = _below(h, w, free, multipliers[0])
    return None if last is None else _dominating(last, shape)


def proved_columns(layers: SlopeLayers, multipliers: Sequence[FloatArray]) -> FloatArray | None:
    """(d,): no derivative by the k-th input is larger in size than the k-th entry; None where not proved."""
    h = _above_inputs(layers, multipliers)
    parts = None if h is None else _eliminated(h, layers.weights[0], layers.free[0], multipliers[0])
    if parts is None:
        return None
    b, active, passed, raised = parts
    squares = np.einsum("ij,ij->j", b, b) + np.einsum("ij,ij->j", active, passed) + raised
    return np.sqrt(np.maximum(squares, 0.0)) * (1 + 4 * UNIT_ROUNDOFF)


def _above_inputs(layers: SlopeLayers, multipliers: Sequence[FloatArray]) -> FloatArray | None:
    """H of the first hidden layer."""
    v = layers.output
    if not _in_range(v) or not all(_in_range(w) for w in layers.weights):
        return None
    h: FloatArray = np.outer(v, v)
    # Rounding of v_i v_j: u |v_i| |v_j|, paid for by the diagonal.
    h[np.diag_indices(len(v))] *= 1 + 4 * UNIT_ROUNDOFF * (len(v) + 2)
    for k in range(layers.depth - 1, 0, -1):
        following = _below(h, layers.weights[k], layers.free[k], multipliers[k])
        if following is None:
            return None
        h = following
    return h


def _in_range(matrix: FloatArray) -> bool:
    """Whether all entries that are not 0 lie where products neither overflow nor lose bits to underflow."""
    sizes = np.abs(matrix[matrix != 0])
    return bool(sizes.size == 0 or (sizes.min() > LEAST and sizes.max() < MOST))


def _lowered(h: FloatArray, free: int, multiplier: FloatArray) -> FloatArray | None:
    """2 Lambda - H_uu; None where its diagonal is not positive."""
    y = -h[:free, :free]
    diagonal = 2 * multiplier - np.diagonal(h)[:free]
    if not (diagonal > 0).all() or not diagonal.max(initial=1.0) < MOST or not diagonal.min(initial=1.0) > LEAST:
        return None
    y[np.diag_indices(free)] = diagonal
    return y


def _below(h: FloatArray, w: FloatArray, free: int, multiplier: FloatArray) -> FloatArray | None:
    """H' (m, m) with z'H z <= y'H' y for all z that the slopes allow for y; None where that is not proved.

    Args:
        h: (n, n), symmetric; w: (n, m); the first `free` neurons are free, the others active.
    """
    parts = _eliminated(h, w, free, multiplier)
    if parts is None:
        return None
    b, active, passed, raised = parts
    following = b.T @ b + active.T @ passed
    following = 0.5 * (following + following.T)
    following[np.diag_indices(len(raised))] += raised
    return following if np.isfinite(following).all() else None


def _eliminated(
    h: FloatArray, w: FloatArray, free: int, multiplier: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray] | None:
    """B, W_a, H_aa W_a and what rounding adds to the diagonal: H' = B'B + W_a'(H_aa W_a) + diag."""
    n, m = w.shape
    gamma = (n + m + 16) * UNIT_ROUNDOFF
    active = w[free:]
    passed = h[free:, free:] @ active
    kappa = np.sqrt(np.maximum(np.diagonal(h)[free:], 0.0)) @ np.abs(active)
    b, lengths = np.zeros((0, m)), np.zeros(m)
    if free:
        y = _lowered(h, free, multiplier)
        if y is None:
            return None
        # d_i^2 <= Y_ii for the factor; H_uu,ii <= 2 lambda_i for products with active neurons.
        room = np.diagonal(y) + (2 * multiplier if free < n else 0.0)
        y[np.diag_indices(free)] -= 8 * gamma * (n + m) * room
        g = multiplier[:, None] * w[:free] + h[:free, free:] @ active
        try:
            factor = cholesky(y, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        b = solve_triangular(factor, g, lower=True, overwrite_b=True, check_finite=False)
        lengths = np.sqrt(np.einsum("ij,ij->j", b, b))
    raised = 8 * gamma * (n + m) * (lengths + kappa) ** 2 + 1e-250
    return (b, active, passed, raised) if np.isfinite(raised).all() else None


def _dominating(h: FloatArray, shape: FloatArray) -> FloatArray | None:
    """The least multiple of `shape` that is proved to dominate H (d, d)."""
    d = len(shape)
    roots = np.sqrt(shape)
    largest = _largest_eigenvalue(h / roots[:, None] / roots[None, :])
    for step in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
        t = shape * (largest * (1 + 8 * d * (d + 16) * UNIT_ROUNDOFF + step))
        matrix = -h
        matrix[np.diag_indices(d)] += t * (1 - 8 * d * (d + 16) * UNIT_ROUNDOFF)
        if _is_positive(matrix):
            return t
    return None


def _wide_inputs(h: FloatArray, w: FloatArray, multiplier: FloatArray, shape: FloatArray) -> FloatArray | None:
    """As `_dominating` for W' Lambda Y^-1 Lambda W, by a decomposition of the side n < d alone.

    diag(t) >= W' Lambda Y^-1 Lambda W exactly where Y >= Lambda W diag(1 / t) W' Lambda.
    """
    n, d = w.shape
    y = _lowered(h, n, multiplier)
    if y is None:
        return None
    scaled = w * (multiplier[:, None] / np.sqrt(shape)[None, :])
    product = scaled @ scaled.T
    product = 0.5 * (product + product.T)
    gamma = (n + d + 32) * UNIT_ROUNDOFF
    try:
        factor = cholesky(y, lower=True, check_finite=False)
    except LinAlgError:
        return None
    b = solve_triangular(factor, scaled, lower=True, check_finite=False)
    largest = _largest_eigenvalue(b @ b.T)
    lost = 8 * gamma * n * (np.diagonal(y) + np.diagonal(product) / max(largest, 1e-300))
    for step in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
        c = largest * (1 + 32 * gamma * n + step)
        if not 0 < c < MOST:
            return None
        matrix = y - product / c
        matrix[np.diag_indices(n)] -= lost
        if _is_positive(matrix):
            return shape * (c * (1 + 8 * UNIT_ROUNDOFF))
    return None


def _largest_eigenvalue(matrix: FloatArray) -> float:
    """An estimate, to be proved by the caller."""
    side = len(matrix)
    if not np.isfinite(matrix).all():
        return math.inf
    if side <= MOST_EIGENVALUES:
        return max(float(eigvalsh(matrix, subset_by_index=[side - 1, side - 1])[0]), 0.0)
    operator = LinearOperator((side, side), matvec=lambda x: matrix @ x, dtype=np.float64)
    start = np.ones(side)
    return max(float(eigsh(operator, 1, which="LA", v0=start, tol=1e-10, return_eigenvectors=False)[0]), 0.0)


def _is_positive(matrix: FloatArray) -> bool:
    if not (np.diagonal(matrix) > 0).all():
        return False
    try:
        cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return False
    return True


def lipschitz_from_diagonal(t: FloatArray, p: float) -> float:
    """sqrt ||t||_{p / (p - 2)}, rounded upward: Lip_p for p >= 2 from sum_k t_k x_k^2."""
    exponent = math.inf if p == 2 else 1.0 if math.isinf(p) else p / (p - 2)
    return math.sqrt(float(vector_norm(t, exponent))) * (1 + (len(t) + 16) * 4 * UNIT_ROUNDOFF)
