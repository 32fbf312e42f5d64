"""The proof of multipliers at a node, compiled: neurons eliminated layer by layer, then a length at the inputs.

Sources: [FRHMP19, theorem 2] for the program; `slopes.proof` for the rounding.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.rounding import EPSILON, UNIT_ROUNDOFF
from solvers.lipschitz.bounds.slopes.grid import code_above, from_code
from solvers.lipschitz.bounds.slopes.layers import NO_CODE

__all__ = ["LEAST_SHARE", "eliminate", "proved_length", "raise_multipliers", "write_codes"]

# Below this share of the layer's largest one a multiplier is raised, so that no diagonal entry vanishes.
LEAST_SHARE = 1e-9
# Sizes that diagonals must keep to: far from where products over- and underflow.
LEAST, MOST = 1e-120, 1e120


@compiled
def _factorise(y, n, b, m):  # type: ignore[no-untyped-def]
    """R (upper) in place with R'R = y, and R'^-1 b in the place of b (n, m); whether y is positive definite."""
    for k in range(n):
        if not y[k, k] > 0.0:
            return False
        pivot = np.sqrt(y[k, k])
        y[k, k] = pivot
        for j in range(k + 1, n):
            y[k, j] /= pivot
        for j in range(m):
            b[k, j] /= pivot
        for i in range(k + 1, n):
            factor = y[k, i]
            if factor != 0.0:
                for j in range(i, n):
                    y[i, j] -= factor * y[k, j]
                for j in range(m):
                    b[i, j] -= factor * b[k, j]
    return True


@compiled
def raise_multipliers(multipliers, free, room, rounded, raised):  # type: ignore[no-untyped-def]
    """Multipliers with room, on the grid where they are rounded; 0 for one of no ordinary size: nothing is proved.

    Those of the l-th of L layers are raised by (1 + room)^(L - l + 1).
    """
    depth = len(free)
    for layer in range(depth):
        largest = 0.0
        for i in range(free[layer]):
            largest = max(largest, multipliers[layer, i])
        for i in range(free[layer]):
            value = max(multipliers[layer, i], LEAST_SHARE * largest) * (1.0 + room) ** (depth - layer)
            if not LEAST < value < MOST:
                value = 0.0
            raised[layer, i] = from_code(code_above(value)) if rounded and value > 0.0 else value


@compiled
def write_codes(raised, places, free, shape, n, codes):  # type: ignore[no-untyped-def]
    """Codes of the multipliers at the neurons' own places, and behind them those of the shape of t."""
    codes[:] = NO_CODE
    for layer in range(len(free)):
        for i in range(free[layer]):
            codes[layer * n + places[layer, i]] = code_above(raised[layer, i])
    for k in range(len(shape)):
        codes[len(free) * n + k] = code_above(shape[k])


@compiled
def eliminate(weights, free, sizes, output, multipliers, spared, d, h, following, y, b):  # type: ignore[no-untyped-def]
    """H over the inputs in h[:d, :d], proved to hold all that the slopes allow for; whether that worked.

    Rounding as in `slopes.proof`: (n + m) 8 gamma of every diagonal, and of what is passed on.

    Args:
        spared: the share of 2 lambda that is left out.
        following, y, b: room for matrices of the largest side.
    """
    depth = len(sizes)
    last = sizes[depth - 1]
    for i in range(last):
        for j in range(last):
            h[i, j] = output[i] * output[j]
        h[i, i] *= 1.0 + 4.0 * UNIT_ROUNDOFF * (last + 2)
    for layer in range(depth - 1, -1, -1):
        n, m, loose = sizes[layer], d if layer == 0 else sizes[layer - 1], free[layer]
        gamma = 8.0 * (n + m + 16) * UNIT_ROUNDOFF * (n + m)
        passed, lengths = np.zeros(m), np.zeros(m)
        for i in range(n):
            for j in range(m):
                b[i, j] = 0.0
            for a in range(loose, n):
                for j in range(m):
                    b[i, j] += h[i, a] * weights[layer, a, j]
        for a in range(loose, n):
            root = np.sqrt(max(h[a, a], 0.0))
            for j in range(m):
                passed[j] += root * abs(weights[layer, a, j])
        for i in range(loose):
            multiplier = multipliers[layer, i]
            for j in range(m):
                b[i, j] += multiplier * weights[layer, i, j]
            for j in range(i + 1, loose):
                y[i, j] = -h[i, j]
            diagonal = 2.0 * multiplier * (1.0 - spared) - h[i, i]
            if not LEAST < diagonal < MOST:
                return False
            y[i, i] = diagonal - gamma * (diagonal + (2.0 * multiplier if loose < n else 0.0))
        if not _factorise(y, loose, b, m):
            return False
        for j in range(m):
            for t in range(j, m):
                following[j, t] = 0.0
        for i in range(loose):
            for j in range(m):
                value = b[i, j]
                lengths[j] += value * value
                for t in range(j, m):
                    following[j, t] += value * b[i, t]
        for a in range(loose, n):
            for j in range(m):
                w, value = 0.5 * weights[layer, a, j], 0.5 * b[a, j]
                for t in range(j, m):
                    following[j, t] += w * b[a, t] + value * weights[layer, a, t]
        for j in range(m):
            following[j, j] += gamma * (np.sqrt(lengths[j]) + passed[j]) ** 2 + 1e-250
            for t in range(j, m):
                h[j, t] = following[j, t]
                h[t, j] = following[j, t]
    return True


@compiled
def proved_length(h, d, shape, q, matrix, spare):  # type: ignore[no-untyped-def]
    """No vector whose square h (d, d) dominates is longer in l_q; inf where that is not proved.

    The least multiple of `shape` that dominates h counts for p >= 2; below, Hoelder's inequality between l_2 and l_inf.
    """
    scaled = np.empty((d, d))
    for j in range(d):
        for t in range(d):
            scaled[j, t] = h[j, t] / np.sqrt(shape[j] * shape[t])
            if not abs(scaled[j, t]) < MOST:
                return np.inf
    largest = max(np.linalg.eigvalsh(scaled)[d - 1], 0.0)
    lost = 8.0 * d * (d + 16) * UNIT_ROUNDOFF
    multiple, proved = 0.0, False
    for step in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
        multiple = largest * (1.0 + lost + step)
        for j in range(d):
            for t in range(j, d):
                matrix[j, t] = -h[j, t]
            matrix[j, j] += shape[j] * multiple * (1.0 - lost)
        if _factorise(matrix, d, spare, 0):
            proved = True
            break
    if not proved:
        return np.inf
    top, total = shape.max(), 0.0
    if q >= 2.0:
        total = top
    elif q == 1.0:
        total = shape.sum()
    else:
        exponent = q / (2.0 - q)  # p / (p - 2)
        for k in range(d):
            total += (shape[k] / top) ** exponent
        total = top * total ** (1.0 / exponent)
    length = np.sqrt(multiple * total) * (1.0 + 8.0 * (d + 16) * EPSILON)
    if q > 2.0:
        component = 0.0
        for k in range(d):
            component = max(component, h[k, k])
        component = np.sqrt(component) * (1.0 + 8.0 * EPSILON)
        if 0.0 < component < length:
            length = component * (length / component) ** (2.0 / q) * (1.0 + 64.0 * EPSILON)
    return length
