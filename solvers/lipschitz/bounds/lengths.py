"""Compiled lengths: of one vector, and of the longest one in a zonotope by a diagonal that dominates its Gram matrix.

Source: [BN01, section 4.3] for maxima of convex quadratic forms over a cube.
"""

from __future__ import annotations

import math

import numpy as np

from solvers.arithmetic.compiled import compiled

__all__ = ["dominated_length", "length_of", "unit_of"]

# Sides of matrices whose powers are taken; multiplications that one Gram matrix may take.
MOST_SQUARED = 128
MOST_GRAM = 100_000_000
# Between them squares and their sums are far from both ends of float64.
SMALL, LARGE = 1e-60, 1e60


@compiled
def length_of(vector, q):  # type: ignore[no-untyped-def]
    """||vector||_q: entries are divided by the largest before powers are taken, so none but negligible ones underflow.

    Relative error below (len(vector) + 8) u for every q: an error of a ratio is raised to q and to 1 / q again.
    """
    largest = 0.0
    for value in vector:
        largest = max(largest, abs(value))
    if np.isinf(q) or largest == 0.0:
        return largest
    total = 0.0
    if q == 1.0:
        for value in vector:
            total += abs(value)
        return total
    if q == 2.0:
        for value in vector:
            total += (value / largest) ** 2
        return largest * np.sqrt(total)
    for value in vector:
        total += (abs(value) / largest) ** q
    return largest * total ** (1.0 / q)


@compiled
def unit_of(vector):  # type: ignore[no-untyped-def]
    """1 for ordinary sizes, else the power of two for which the largest entry lies in [1/2, 1) units."""
    largest = length_of(vector, np.inf)
    if largest == 0.0 or SMALL < largest < LARGE or not np.isfinite(largest):
        return 1.0
    return math.ldexp(1.0, math.frexp(largest)[1])


@compiled
def _largest_eigenvalue(matrix):  # type: ignore[no-untyped-def]
    """An upper bound of the largest eigenvalue of a symmetric non-negative definite matrix (d, d).

    ||B^16||_F^(1/16) lies between it and d^(1/32) times it; for large d ||B||_F, which takes no products.
    """
    d = len(matrix)
    power, following = matrix.copy(), np.empty((d, d))
    scale = 0.0  # the power computed is `power` * exp(scale)
    squarings = 4 if d <= MOST_SQUARED else 0
    for _ in range(squarings):
        size = 0.0
        for i in range(d):
            for j in range(d):
                size = max(size, abs(power[i, j]))
        if size == 0.0:
            return 0.0
        for i in range(d):
            for j in range(d):
                power[i, j] /= size
        scale = 2.0 * (scale + np.log(size))
        for i in range(d):
            for j in range(d):
                following[i, j] = 0.0
            for t in range(d):
                value = power[i, t]
                for j in range(d):
                    following[i, j] += value * power[t, j]
        power, following = following, power
    total = 0.0
    for i in range(d):
        for j in range(d):
            total += power[i, j] * power[i, j]
    # Products of non-negative definite matrices: relative errors in the Frobenius norm stay below d^2 u for each.
    return np.exp((0.5 * np.log(max(total, 1e-300)) + scale) / 2.0**squarings) * (1.0 + 1e-12 * d * d)


@compiled
def dominated_length(rows, low, high, count, q, near, reach):  # type: ignore[no-untyped-def]
    """`_dominated_length` in units in which no square under- or overflows; inf where it says nothing."""
    unit = unit_of(reach)
    bound = unit * _dominated_length(rows, low / unit, high / unit, count, q, near / unit, reach / unit)
    return bound if bound == bound else np.inf


@compiled
def _dominated_length(rows, low, high, count, q, near, reach):  # type: ignore[no-untyped-def]
    """A bound in l_q, q < inf, of g = sum_i c_i rows_i with c_i in [low_i, high_i] and near_k <= |g_k| <= reach_k.

    Scaling axes leaves q = 2. For q < 2, ||g||_q^2 <= sum_k g_k^2 / w_k for w > 0 with ||w||_{q/(2-q)} <= 1 (Hoelder).
    For q > 2, |g_k|^q is convex in g_k^2, so below its chord: ||g||_q^q <= sum_k (b_k + a_k g_k^2). There,
    with the middle m and generators a_i, ||m + A t||^2 <= ||m||^2 + 2 sum |<m, a_i>| + sum D_i for a diagonal D >= A'A,
    that is for largest eigenvalue of sum a_i a_i' / D_i at most 1; D_i is taken proportional to |a_i|.
    """
    d = rows.shape[1]
    scale = np.ones(d)
    constant, unit = 0.0, 1.0  # of the chords, lengths measured in units
    if q > 2.0:
        unit = 0.0
        for k in range(d):
            unit = max(unit, reach[k])
        if unit == 0.0:
            return 0.0
        for k in range(d):
            far, close = reach[k] / unit, near[k] / unit
            slope = 0.0
            if far - close > 1e-6 * far:
                slope = (far**q - close**q) / (far * far - close * close)
            constant += far**q - slope * far * far + 1e-14 * far**q
            scale[k] = np.sqrt(slope) / unit
    if q < 2.0:
        power = q / (2.0 - q)
        total, largest = 0.0, 0.0
        for k in range(d):
            largest = max(largest, reach[k])
        if largest == 0.0:
            return 0.0
        for k in range(d):
            scale[k] = max(reach[k] / largest, 1e-3) ** (2.0 - q)
            total += scale[k] ** power
        for k in range(d):
            scale[k] = 1.0 / np.sqrt(scale[k] / total ** (1.0 / power))
    middle = np.zeros(d)
    generators = np.empty((count, d))
    lengths = np.empty(count)
    used = 0
    for i in range(count):
        mid, half = 0.5 * (low[i] + high[i]), 0.5 * (high[i] - low[i])
        if mid != 0.0:
            for k in range(d):
                middle[k] += mid * rows[i, k] * scale[k]
        if half > 0.0:
            square = 0.0
            for k in range(d):
                value = half * rows[i, k] * scale[k]
                generators[used, k] = value
                square += value * value
            if square > 0.0:
                lengths[used] = np.sqrt(square)
                used += 1
    side = min(d, used)
    if used * d * side > MOST_GRAM:
        return np.inf
    total = 0.0
    for k in range(d):
        total += middle[k] * middle[k]
    sizes = 0.0
    for i in range(used):
        along = 0.0
        for k in range(d):
            along += middle[k] * generators[i, k]
        total += 2.0 * abs(along)
        sizes += lengths[i]
    if used:
        # sum a_i a_i' / |a_i| and the matrix of <a_i, a_j> / sqrt(|a_i| |a_j|) have the same eigenvalues but for 0.
        matrix = np.zeros((side, side))
        for i in range(used):
            root = np.sqrt(lengths[i])
            for k in range(d):
                generators[i, k] /= root
        if side == d:
            for i in range(used):
                for k in range(d):
                    value = generators[i, k]
                    for t in range(d):
                        matrix[k, t] += value * generators[i, t]
        else:
            for i in range(used):
                for j in range(i + 1):
                    value = 0.0
                    for k in range(d):
                        value += generators[i, k] * generators[j, k]
                    matrix[i, j] = value
                    matrix[j, i] = value
        total += sizes * _largest_eigenvalue(matrix) * (1.0 + 1e-13 * (used + d))
    total *= 1.0 + 1e-14 * (used + d)
    if q > 2.0:
        # Rounding of the rows weighs (reach / bound)^(q - 1) times more than in a norm, so that is kept below 8.
        floor = length_of(reach, q) * 8.0 ** (-1.0 / (q - 1.0))
        return max(unit * max(constant + total, 0.0) ** (1.0 / q) * (1.0 + 1e-14), floor)
    return np.sqrt(total)
