"""The matrix inequality behind multipliers, assembled from its definition and decided in rationals."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from solvers.arithmetic.norms import FloatArray

Matrix = list[list[Fraction]]


def inequality(
    weights: Sequence[FloatArray], free: Sequence[int], output: FloatArray, multipliers: Sequence[FloatArray]
) -> Matrix:
    """2 sum lambda_i z_i (z_i - a_i) - f^2 as a symmetric matrix over inputs and free neurons, inputs first.

    Args:
        weights: per hidden layer (n_l, n_{l-1}); the first `free[l]` neurons have a z of their own, the others pass on.
    """
    d = weights[0].shape[1]
    size = d + sum(free)
    total = [[Fraction(0)] * size for _ in range(size)]
    rows = [_unit(k, size) for k in range(d)]
    start = d
    for w, count, part in zip(weights, free, multipliers, strict=True):
        a = [_combined(row, rows, size) for row in w]
        own = [_unit(start + i, size) for i in range(count)]
        for i in range(count):
            twice = 2 * Fraction(float(part[i]))
            total[start + i][start + i] += twice
            for k, value in enumerate(a[i]):
                total[start + i][k] -= twice * value / 2
                total[k][start + i] -= twice * value / 2
        rows, start = [*own, *a[count:]], start + count
    f = _combined(output, rows, size)
    return [[total[i][k] - f[i] * f[k] for k in range(size)] for i in range(size)]


def with_inputs(matrix: Matrix, t: FloatArray) -> Matrix:
    """The matrix with sum_k t_k x_k^2 added."""
    found = [row.copy() for row in matrix]
    for k, value in enumerate(t.tolist()):
        found[k][k] += Fraction(value)
    return found


def is_positive_definite(matrix: Matrix) -> bool:
    """Whether all pivots are positive, without a rounding."""
    rows = [row.copy() for row in matrix]
    for k, row in enumerate(rows):
        if row[k] <= 0:
            return False
        for other in rows[k + 1 :]:
            share = other[k] / row[k]
            for j in range(k, len(rows)):
                other[j] -= share * row[j]
    return True


def _unit(place: int, size: int) -> list[Fraction]:
    return [Fraction(int(k == place)) for k in range(size)]


def _combined(row: FloatArray, rows: Sequence[Sequence[Fraction]], size: int) -> list[Fraction]:
    found = [Fraction(0)] * size
    for value, part in zip(np.asarray(row).tolist(), rows, strict=True):
        found = [sofar + Fraction(value) * entry for sofar, entry in zip(found, part, strict=True)]
    return found
