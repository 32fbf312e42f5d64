"""Compiled: what ranges and a program over slopes say of a box of inputs.

Ranges carried backward are those of `relaxation.tightened` with one slope below every undecided neuron: 1 for one that
is more above 0 than below, else 0. As there, coefficients as they are computed count as exact, and each link moves the
sum by no more than its sizes allow (`relaxation.chain`).
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW
from solvers.lipschitz.bounds.ranges import EMPTY, propagate
from solvers.lipschitz.bounds.slopes.kernels import RANK, slopes_bound

__all__ = ["look_at_box"]


@compiled
def _link(weights, biases, count, before, signs, z_low, z_high, reach_before, above, below, top, sizes, reach):  # type: ignore[no-untyped-def]
    """Lines around the neurons of a layer, (n,) each; sizes of what adds up in them, and of what comes out."""
    for i in range(count):
        size = abs(biases[i])
        for j in range(before):
            size += abs(weights[i, j]) * reach_before[j]
        sizes[i] = size * (1.0 + (before + 8) * EPSILON) + UNDERFLOW
        lo, hi = z_low[i], z_high[i]
        above[i], below[i], top[i], reach[i] = 0.0, 0.0, 0.0, 0.0
        if signs[i] < 0 or hi <= 0.0:
            continue
        reach[i] = hi
        if signs[i] > 0 or lo >= 0.0:
            above[i], below[i] = 1.0, 1.0
            continue
        # Any slope in [0, 1] gives a line above, once it clears relu at both ends of the range.
        slope = min(hi / (hi - lo), 1.0)
        above[i] = slope
        below[i] = 1.0 if hi > -lo else 0.0
        top[i] = max(-slope * lo, (1.0 - slope) * hi) * (1.0 + 8.0 * EPSILON) + UNDERFLOW


@compiled
def _lowest(weights, biases, widths, low, high, layer, row, bias, above, below, top, sizes, reach, lam, following):  # type: ignore[no-untyped-def]
    """A proved lower bound of row y + bias, y what comes out of the layer before `layer`."""
    k, widest = len(low), len(low)
    total, size, hidden = bias, abs(bias), 0.0
    for j in range(widths[layer - 1]):
        lam[j] = row[j]
    for m in range(layer - 1, -1, -1):
        before = k if m == 0 else widths[m - 1]
        widest = max(widest, widths[m])
        for j in range(before):
            following[j] = 0.0
        for i in range(widths[m]):
            c = lam[i]
            if c == 0.0 or reach[m + 1, i] == 0.0:
                continue
            hidden += sizes[m, i]
            if c > 0.0:
                a = c * below[m, i]
            else:
                a = c * above[m, i]
                total += c * top[m, i]
                size -= c * top[m, i]
            if a == 0.0:
                continue
            total += a * biases[m, i]
            size += abs(a) * sizes[m, i]
            for j in range(before):
                following[j] += a * weights[m, i, j]
        hidden += before
        for j in range(before):
            lam[j] = following[j]
            hidden += reach[m, j]
    for j in range(k):
        total += lam[j] * (low[j] if lam[j] > 0.0 else high[j])
        size += abs(lam[j]) * reach[0, j]
    count = 2 * widest + 4 * layer + 16
    found = total - (8.0 * count * EPSILON * size + UNDERFLOW * (1.0 + hidden))
    return found if abs(found) < np.inf else -np.inf


@compiled
def _carry_backward(weights, biases, widths, low, high, signs, z_low, z_high):  # type: ignore[no-untyped-def]
    """Tighten the ranges of undecided neurons, and decide those that they then decide."""
    depth, n = signs.shape
    k = len(low)
    side = max(n, k)
    above, below, top, sizes = np.zeros((depth, n)), np.zeros((depth, n)), np.zeros((depth, n)), np.zeros((depth, n))
    reach = np.zeros((depth + 1, side))
    lam, following, row = np.empty(side), np.empty(side), np.empty(side)
    for j in range(k):
        reach[0, j] = max(abs(low[j]), abs(high[j]))
    loose = False
    for m in range(depth):
        before = k if m == 0 else widths[m - 1]
        for i in range(widths[m]):
            if not loose or signs[m, i] != 0:
                continue
            for j in range(before):
                row[j] = weights[m, i, j]
            lowest = _lowest(
                weights, biases, widths, low, high, m, row, biases[m, i], above, below, top, sizes, reach, lam,
                following,
            )  # fmt: skip
            z_low[m, i] = max(z_low[m, i], lowest)
            if z_low[m, i] >= 0.0:
                signs[m, i] = 1
                continue
            for j in range(before):
                row[j] = -weights[m, i, j]
            lowest = _lowest(
                weights, biases, widths, low, high, m, row, -biases[m, i], above, below, top, sizes, reach, lam,
                following,
            )  # fmt: skip
            z_high[m, i] = min(z_high[m, i], -lowest)
            if z_high[m, i] <= 0.0:
                signs[m, i] = -1
        for i in range(widths[m]):
            loose = loose or signs[m, i] == 0
        _link(
            weights[m], biases[m], widths[m], before, signs[m], z_low[m], z_high[m], reach[m], above[m],
            below[m], top[m], sizes[m], reach[m + 1],
        )  # fmt: skip


@compiled
def _weigh(s, widths, signs, vectors, weight):  # type: ignore[no-untyped-def]
    """lambda |a|^2 of every undecided neuron, (L, n), at the vectors of `slopes.kernels`."""
    depth, n = signs.shape
    d = len(vectors) - depth * n
    side = max(n, d)
    before, lengths = np.zeros((depth, n, RANK)), np.zeros((depth, n))
    y, z = np.zeros((side, RANK)), np.zeros((side, RANK))
    for j in range(d):
        for t in range(RANK):
            y[j, t] = vectors[depth * n + j, t]
    for m in range(depth):
        count = d if m == 0 else widths[m - 1]
        for i in range(widths[m]):
            for t in range(RANK):
                z[i, t] = 0.0
            if signs[m, i] < 0:
                continue
            for j in range(count):
                w = s.weights[m, i, j]
                for t in range(RANK):
                    z[i, t] += w * y[j, t]
            square = 0.0
            for t in range(RANK):
                before[m, i, t] = z[i, t]
                square += z[i, t] * z[i, t]
            lengths[m, i] = np.sqrt(square)
            if signs[m, i] == 0:
                for t in range(RANK):
                    z[i, t] = 0.5 * (z[i, t] + lengths[m, i] * vectors[m * n + i, t])
        y, z = z, y
    end = np.zeros(RANK)
    for i in range(widths[depth - 1]):
        for t in range(RANK):
            end[t] += s.output[i] * y[i, t]
    h = np.zeros((side, RANK))
    for i in range(widths[depth - 1]):
        for t in range(RANK):
            h[i, t] = s.output[i] * end[t]
    back = np.empty(RANK)
    for m in range(depth - 1, -1, -1):
        following = np.zeros((side, RANK))
        for i in range(widths[m]):
            if signs[m, i] < 0:
                continue
            square = 0.0
            for t in range(RANK):
                square += h[i, t] * h[i, t]
                back[t] = h[i, t]
            if signs[m, i] == 0:
                size = np.sqrt(square)
                weight[m, i] = size * lengths[m, i]
                share = size / lengths[m, i] if lengths[m, i] > 0.0 else 0.0
                for t in range(RANK):
                    back[t] = 0.5 * (share * before[m, i, t] + h[i, t])
            for j in range(widths[m - 1] if m > 0 else 0):
                w = s.weights[m, i, j]
                for t in range(RANK):
                    following[j, t] += w * back[t]
        h = following


@compiled
def look_at_box(k, s, low, high, signs, z_low, z_high, known, vectors):  # type: ignore[no-untyped-def]
    """Ranges, signs and a bound of a box.

    Args:
        k: KernelArrays of a box around it; s: SlopeArrays.
        low, high: (k,), the box.
        signs: (L, n) int8, filled; z_low, z_high: (L, n), ranges known before, tightened.
        known: a bound of it.
        vectors: (L n + d, RANK), where the program begins, changed.
    Returns:
        (bound, undecided neurons, how much the bound feels every side (k,)); EMPTY undecided ones where the box has no
        region, and nothing else that is said holds then.
    """
    depth, n = signs.shape
    size = len(low)
    lines, over, errors = np.empty((depth, n, size + 1)), np.empty((depth, n, size + 1)), np.zeros((depth, n))
    felt = np.zeros(size)
    first = propagate(
        k.weights, k.biases, k.widths, k.group, k.turn, low, high, signs, z_low, z_high, lines, over, errors, k.stop
    )  # fmt: skip
    if first == EMPTY:
        return known, EMPTY, felt
    if k.stop[0] != 0:
        return known, depth * n, felt
    _carry_backward(k.weights, k.biases, k.widths, low, high, signs, z_low, z_high)
    codes = np.empty(len(vectors), dtype=np.int16)
    bound, _, _ = slopes_bound(s, k.widths, signs, 0, k.q, known, s.sweeps, vectors, codes)
    weight = np.zeros((depth, n))
    _weigh(s, k.widths, signs, vectors, weight)
    undecided = 0
    for m in range(depth):
        for i in range(k.widths[m]):
            if signs[m, i] != 0:
                continue
            undecided += 1
            width = z_high[m, i] - z_low[m, i]
            if not width > 0.0:
                continue
            for t in range(size):
                felt[t] += weight[m, i] * min(1.0, abs(lines[m, i, t]) * (high[t] - low[t]) / width)
    return min(bound, known), undecided, felt
