"""Lengths of the longest vectors of many zonotopes, each by a diagonal that dominates its Gram matrix."""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.norms import FloatArray, vector_norm

__all__ = ["RELATIVE", "dominated_lengths", "householder", "largest_eigenvalues"]

# Relative rounding of sums of non-negative terms that are no products of weights: a few hundred units.
RELATIVE = 1e-12


def householder(axes: FloatArray) -> FloatArray:
    """Orthogonal matrices (B, d, d) whose first row points along the axis, or against it."""
    d = axes.shape[1]
    sizes = np.linalg.norm(axes, axis=1, keepdims=True)
    v = axes / np.where(sizes > 0, sizes, 1.0)
    v[:, 0] += np.where(v[:, 0] >= 0, 1.0, -1.0)
    return np.asarray(np.eye(d) - 2 * v[:, :, None] * v[:, None, :] / (v * v).sum(axis=1)[:, None, None])


def dominated_lengths(
    rows: FloatArray, middle: FloatArray, half: FloatArray, q: float, near: FloatArray, reach: FloatArray
) -> FloatArray:
    """Bounds (B,): ||m + A t||^2 <= |m|^2 + 2 sum |<m, a_i>| + sum D_i with a diagonal D >= A'A.

    For q < 2 after scaling: ||g||_q^2 <= sum_k g_k^2 / w_k where ||w||_{q / (2 - q)} <= 1 (Hoelder). For q > 2 too:
    |g_k|^q lies below its chord in g_k^2, from near_k <= |g_k| to reach_k.
    Source: [BN01, section 4.3] for quadratic forms over a cube.
    """
    scale = np.ones_like(reach)
    if q < 2:
        power = q / (2 - q)
        largest = reach.max(axis=1, keepdims=True)
        w = np.maximum(reach / np.where(largest > 0, largest, 1.0), 1e-3) ** (2 - q)
        w /= ((w**power).sum(axis=1, keepdims=True)) ** (1 / power) * (1 + RELATIVE)
        scale = 1 / np.sqrt(w)
    constants, size = np.zeros(len(reach)), np.ones((len(reach), 1))
    room = 1e-15 * (rows.shape[1] + rows.shape[2] + 8)
    if q > 2:
        size = np.where(reach.any(axis=1), reach.max(axis=1), 1.0)[:, None]
        far, close = reach / size, near / size
        wide = far - close > 1e-6 * far
        slopes = np.where(wide, far**q - close**q, 0.0) / np.where(wide, far**2 - close**2, 1.0)
        constants = (far**q * (1 + room) - slopes * far**2).sum(axis=1)
        scale = np.sqrt(slopes) / size
    scaled = rows * scale[:, None]
    m, generators = (middle[:, None] @ scaled)[:, 0], half[..., None] * scaled
    lengths = np.sqrt((generators**2).sum(axis=2))
    unit = generators / np.where(lengths > 0, lengths, 1.0)[..., None]
    total = (m * m).sum(axis=1) + 2 * np.abs(generators @ m[..., None])[..., 0].sum(axis=1)
    total = total + lengths.sum(axis=1) * largest_eigenvalues(unit.transpose(0, 2, 1) @ generators)
    if q <= 2:
        return np.asarray(np.sqrt(total))
    found = size[:, 0] * np.maximum(constants + total * (1 + room), 0.0) ** (1 / q)
    # Rounding of the rows, as in `_by_chords`.
    return np.asarray(np.maximum(found, vector_norm(reach, q) * 8 ** (-1 / (q - 1))))


def largest_eigenvalues(matrices: FloatArray) -> FloatArray:
    """Upper bounds (B,) for symmetric non-negative definite B: lambda <= ||B^256||_F^(1/256), powers by squaring."""
    d = matrices.shape[1]
    scale = np.zeros(len(matrices))
    for _ in range(8):
        sizes = np.abs(matrices).max(axis=(1, 2), initial=0.0)
        scale = 2 * (scale + np.log(np.where(sizes > 0, sizes, 1.0)))
        matrices = matrices / np.where(sizes > 0, sizes, 1.0)[:, None, None]
        matrices = matrices @ matrices
    total = np.sqrt((matrices**2).sum(axis=(1, 2)))
    # Relative errors of products of such matrices stay below d^2 units each, in the Frobenius norm.
    found = np.exp((np.log(np.where(total == 0, 1.0, total)) + scale) / 256) * (1 + 1e-13 * d * d)
    return np.where(total == 0, 0.0, found)
