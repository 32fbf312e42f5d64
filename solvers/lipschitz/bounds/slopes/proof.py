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
|W_kj| to d_j, for |H_kl| <= sqrt(H_kk H_ll): every H dominates a square. Every constant below is at least twice what
the theorems ask for. Weights are scaled (`slopes.layers`), so what underflows is far below the least that is added.

Above the last layer H is v v', and with tau = 1 / (1 - what is spared), lambda what is left and all free ones first

    G' Y^-1 G + K = S'S + c x x',   S = sqrt(tau Lambda / 2) W_u,  x = tau W_u' v_u / 2 + W_a' v_a,  c = 1 / (1 - s),

s = sum v_i^2 / (2 lambda_i) < 1 [SM50]. c is rounded upward. By Cauchy and Schwarz |x_j| and its terms are at most
l_j + kappa_j, l the lengths of the columns of S and kappa = |W_a|'|v_a|, so entries are off by gamma D_i D_j at most,
D = l + sqrt(c) (l + kappa), and the diagonal pays for it as above.

Of symmetric matrices the lower half alone is computed and read, in the place of what is not needed any more.

A share of every multiplier and of t is spared: what is proved is that the whole matrix of the inequality, over inputs
and free neurons, dominates `spare` times its diagonal without H. So a checker that decomposes it in one piece, in
float64, and loses less than that, comes to its end.

Sources: [FRHMP19, theorem 2] for the multipliers; [XS24, section 3] for elimination layer by layer; [Rump06, theorem
2.3] and [Hig02, theorems 8.5 and 10.3] for the rounding of Cholesky decompositions and triangular systems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.linalg.blas import dsyr, dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.rounding import UNIT_ROUNDOFF
from solvers.lipschitz.bounds.slopes.eigenvalues import estimated_eigenvalue
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers

__all__ = [
    "SPARED_FOR_ACTIVE",
    "lipschitz_between",
    "lipschitz_from_diagonal",
    "proved_columns",
    "proved_diagonal",
    "shallow_derivatives",
    "spare",
]

# Sizes that the diagonals must keep to: far from where products over- and underflow.
LEAST, MOST = 1e-120, 1e120
# What active neurons may add to the rounding of a checker, whose sums run through many layers, unless told otherwise.
SPARED_FOR_ACTIVE = 1e-9


def proved_diagonal(
    layers: SlopeLayers, multipliers: Sequence[FloatArray], shape: FloatArray, lost: float = SPARED_FOR_ACTIVE
) -> FloatArray | None:
    """t, a multiple of `shape`, with |f(x) - f(x')|^2 <= sum_k t_k (x_k - x'_k)^2 for certain; None where not proved.

    Args:
        layers: the slopes, at least one layer.
        multipliers: lambda of the free neurons, per hidden layer, >= 0.
        shape: (d,), positive.
        lost: the share of the diagonal that active neurons cost a checker.
    """
    if not layers.representable:
        return None
    w, free, spared = layers.weights[0], layers.free[0], spare(layers, lost)
    if free == len(w) and free < layers.inputs:
        h = _above_inputs(layers, multipliers, spared)
        t = None if h is None else _wide_inputs(h, w, multipliers[0] * (1 - spared), multipliers[0], shape)
    else:
        if layers.depth == 1:
            last = _below_output(layers.output, w, free, multipliers[0], spared)
        else:
            h = _above_inputs(layers, multipliers, spared)
            last = None if h is None else _below(h, w, free, multipliers[0], spared)
        t = None if last is None else _dominating(last, shape)
    return None if t is None else t / (1 - spared) * (1 + 8 * UNIT_ROUNDOFF)


def spare(layers: SlopeLayers, lost: float = SPARED_FOR_ACTIVE) -> float:
    """The share of the diagonal that is left to the rounding of a checker."""
    sides = layers.inputs + sum(layers.free)
    active = any(free < len(w) for free, w in zip(layers.free, layers.weights, strict=True))
    return 8 * (sides + 8) * (sides + 16) * UNIT_ROUNDOFF + (lost if active else 0.0)


def proved_columns(
    layers: SlopeLayers, multipliers: Sequence[FloatArray], lost: float = SPARED_FOR_ACTIVE
) -> FloatArray | None:
    """(d,): no derivative by the k-th input is larger in size than the k-th entry; None where not proved."""
    spared = spare(layers, lost)
    h = _above_inputs(layers, multipliers, spared)
    parts = None if h is None else _eliminated(h, layers.weights[0], layers.free[0], multipliers[0], spared)
    if parts is None:
        return None
    b, active, passed, raised = parts
    squares = np.einsum("ij,ij->j", b, b) + np.einsum("ij,ij->j", active, passed) + raised
    return np.sqrt(np.maximum(squares, 0.0) / (1 - spared)) * (1 + 8 * UNIT_ROUNDOFF)


def shallow_derivatives(layers: SlopeLayers) -> FloatArray:
    """(d,): the largest sizes of sum_i s_i v_i W_ik over slopes s_i in [0, 1], of active neurons 1; rounded upward."""
    terms = layers.output[:, None] * layers.weights[0]
    free = layers.free[0]
    fixed = terms[free:].sum(axis=0)
    up, down = np.maximum(terms[:free], 0.0).sum(axis=0), np.maximum(-terms[:free], 0.0).sum(axis=0)
    lost = 8 * (len(terms) + 8) * UNIT_ROUNDOFF * np.abs(terms).sum(axis=0)
    return np.maximum(fixed + up, down - fixed) + lost


def _above_inputs(layers: SlopeLayers, multipliers: Sequence[FloatArray], spared: float) -> FloatArray | None:
    """H of the first hidden layer; its lower half, as everywhere below."""
    if not layers.representable:
        return None
    v, top = layers.output, layers.depth - 1
    if top == 0:
        h: FloatArray = np.outer(v, v)
        # Rounding of v_i v_j: u |v_i| |v_j|, paid for by the diagonal.
        h[np.diag_indices(len(v))] *= 1 + 4 * UNIT_ROUNDOFF * (len(v) + 2)
        return h
    following = _below_output(v, layers.weights[top], layers.free[top], multipliers[top], spared)
    for k in range(top - 1, 0, -1):
        if following is None:
            return None
        following = _below(following, layers.weights[k], layers.free[k], multipliers[k], spared)
    return following


def _below_output(v: FloatArray, w: FloatArray, free: int, multiplier: FloatArray, spared: float) -> FloatArray | None:
    """H' (m, m) below the last layer, whose H is v v': no decomposition, one product; None where it is not proved.

    Args:
        v: (n,); w: (n, m); the first `free` neurons are free, the others active.
    """
    n, m = w.shape
    gamma = (n + m + 16) * UNIT_ROUNDOFF
    lowered = multiplier * (1 - spared)
    if not (lowered < MOST).all() or not (lowered > LEAST).all():
        return None
    s = float((v[:free] / lowered) @ v[:free]) / 2 * (1 + 8 * gamma)
    if not s < 1:
        return None
    c = (1 + 8 * UNIT_ROUNDOFF) / (1 - s)
    scaled = np.sqrt(multiplier / (2 * (1 - spared)))[:, None] * w[:free]
    x = (v[:free] @ w[:free]) / (2 * (1 - spared)) + v[free:] @ w[free:]
    lengths = np.sqrt(np.einsum("ij,ij->j", scaled, scaled))
    raised = 8 * gamma * (n + m) * (lengths + math.sqrt(c) * (lengths + np.abs(v[free:]) @ np.abs(w[free:]))) ** 2
    following = dsyr(c, x, lower=1, a=_gram(scaled), overwrite_a=1)
    following[np.diag_indices(m)] += raised + 1e-250
    return following if np.isfinite(np.diagonal(following)).all() else None


def _gram(b: FloatArray) -> FloatArray:
    """The lower half of B'B (m, m) for B (n, m), in the order that decompositions work in place on."""
    if not len(b):
        return np.zeros((b.shape[1], b.shape[1]), order="F")
    found: FloatArray = dsyrk(1.0, np.ascontiguousarray(b).T, lower=1)
    return found


def _lowered(h: FloatArray, free: int, multiplier: FloatArray) -> FloatArray | None:
    """2 Lambda - H_uu, in the place of H where all neurons are free; None where its diagonal is not positive.

    Args:
        multiplier: lambda without what is spared.
    """
    diagonal = 2 * multiplier - np.diagonal(h)[:free]
    if not (diagonal > 0).all() or not diagonal.max(initial=1.0) < MOST or not diagonal.min(initial=1.0) > LEAST:
        return None
    y = np.array(h[:free, :free], order="F", copy=None if free == len(h) else True)
    np.negative(y, out=y)
    y[np.diag_indices(free)] = diagonal
    return y


def _below(h: FloatArray, w: FloatArray, free: int, multiplier: FloatArray, spared: float) -> FloatArray | None:
    """H' (m, m) with z'H z <= y'H' y for all z that the slopes allow for y; None where that is not proved.

    Args:
        h: (n, n), the lower half of a symmetric matrix, spoilt by the call; w: (n, m); the first `free` neurons are
            free, the others active.
    """
    parts = _eliminated(h, w, free, multiplier, spared)
    if parts is None:
        return None
    b, active, passed, raised = parts
    following = _gram(b)
    if len(active):
        product = active.T @ passed
        following += 0.5 * (product + product.T)
    following[np.diag_indices(len(raised))] += raised
    return following if np.isfinite(np.diagonal(following)).all() else None


def _eliminated(
    h: FloatArray, w: FloatArray, free: int, multiplier: FloatArray, spared: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray] | None:
    """B, W_a, H_aa W_a and what rounding adds to the diagonal: H' = B'B + W_a'(H_aa W_a) + diag.

    The factor takes the place of H where all neurons are free, B the place of G.
    """
    n, m = w.shape
    gamma = (n + m + 16) * UNIT_ROUNDOFF
    active = w[free:]
    kappa = np.sqrt(np.maximum(np.diagonal(h)[free:], 0.0)) @ np.abs(active)
    half = np.tril(h[free:, free:], -1)
    passed = (half + half.T + np.diag(np.diagonal(h)[free:])) @ active
    b, lengths = np.zeros((0, m)), np.zeros(m)
    if free:
        g = multiplier[:, None] * w[:free]
        if free < n:
            g += h[free:, :free].T @ active
        y = _lowered(h, free, multiplier * (1 - spared))
        if y is None:
            return None
        # d_i^2 <= Y_ii for the factor; H_uu,ii <= 2 lambda_i for products with active neurons.
        room = np.diagonal(y) + (2 * multiplier if free < n else 0.0)
        y[np.diag_indices(free)] -= 8 * gamma * (n + m) * room
        factor, failed = dpotrf(y, lower=1, clean=0, overwrite_a=1)
        if failed:
            return None
        b = dtrsm(1.0, factor, g.T, side=1, lower=1, trans_a=1, overwrite_b=1).T
        lengths = np.sqrt(np.einsum("ij,ij->j", b, b))
    raised = 8 * gamma * (n + m) * (lengths + kappa) ** 2 + 1e-250
    return (b, active, passed, raised) if np.isfinite(raised).all() else None


def _dominating(h: FloatArray, shape: FloatArray) -> FloatArray | None:
    """The least multiple of `shape` that is proved to dominate H (d, d), given by its lower half."""
    d = len(shape)
    roots = np.sqrt(shape)
    half = np.tril(h, -1)
    h = half + half.T + np.diag(np.diagonal(h))
    largest = estimated_eigenvalue(h / roots[:, None] / roots[None, :])
    for step in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
        t = shape * (largest * (1 + 8 * d * (d + 16) * UNIT_ROUNDOFF + step))
        matrix = -h
        matrix[np.diag_indices(d)] += t * (1 - 8 * d * (d + 16) * UNIT_ROUNDOFF)
        if _is_positive(matrix):
            return t
    return None


def _wide_inputs(
    h: FloatArray, w: FloatArray, lowered: FloatArray, multiplier: FloatArray, shape: FloatArray
) -> FloatArray | None:
    """As `_dominating` for W' Lambda Y^-1 Lambda W, by a decomposition of the side n < d alone.

    diag(t) >= W' Lambda Y^-1 Lambda W exactly where Y >= Lambda W diag(1 / t) W' Lambda.

    Args:
        lowered: the multipliers of the diagonal of Y, without what is spared.
    """
    n, d = w.shape
    y = _lowered(h, n, lowered)
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
    largest = estimated_eigenvalue(b @ b.T)
    if not LEAST < largest < MOST:
        return None
    lost = 8 * gamma * n * (np.diagonal(y) + np.diagonal(product) / largest)
    for step in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
        c = largest * (1 + 32 * gamma * n + step)
        matrix = y - product / c
        matrix[np.diag_indices(n)] -= lost
        if _is_positive(matrix):
            return shape * (c * (1 + 8 * UNIT_ROUNDOFF))
    return None


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


def lipschitz_between(p: float, t: FloatArray, derivatives: FloatArray) -> float:
    """Lip_p for 1 < p < 2, rounded upward, from sum g_k^2 / t_k <= 1 and |g_k| <= h_k for all gradients g.

    With q dual to p, sum |g_k|^q <= sum h_k^(q - 2) g_k^2 <= max h_k^(q - 2) t_k.

    Args:
        t, derivatives: t and h, (d,), positive; empty where nothing is proved.
    """
    if not len(t):
        return math.inf
    roots = np.sqrt(t)
    # ||g||_q <= ||g||_2.
    euclid = float(roots.max()) * (1 + 8 * UNIT_ROUNDOFF)
    if not len(derivatives):
        return euclid
    share = 2 * (1 - 1 / p)
    return min(euclid, float((derivatives * (roots / derivatives) ** share).max()) * (1 + 512 * UNIT_ROUNDOFF))
