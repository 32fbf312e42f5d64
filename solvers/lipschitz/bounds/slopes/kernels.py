"""LipSDP-Neuron under a partial pattern, compiled: multipliers and their proof in a tenth of a millisecond.

As `slopes.vectors` and `slopes.proof` do it, for the tens of thousands of small programs that a search asks for:
decided neurons have slope 0 or 1, the rest any slope in [0, 1], and the vectors begin where those of the node above
ended. Few sweeps leave multipliers a little off their optimum, which costs sharpness and never soundness.

Sources: [FRHMP19, theorem 2] for the program; [BM03] for the low-rank form; `slopes.proof` for the rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.slopes.elimination import (
    LEAST_SHARE,
    eliminate,
    proved_length,
    raise_multipliers,
    write_codes,
)
from solvers.lipschitz.bounds.slopes.grid import code_above, from_code

__all__ = ["RANK", "SlopeArrays", "slopes_bound"]

# Numbers in a vector. With 8 the ascent ends at the program's optimum on networks of up to 200 neurons; a power of two
# that the compiler knows makes the innermost loops one or two instructions.
RANK = 8
# Room that multipliers are given, layer by layer, until they are proved.
ROOMS = (0.0, 1e-4, 1e-3, 1e-2, 5e-2, 2e-1)
# A node whose program reaches this share of the bound above it keeps that bound: nothing is proved anew.
AS_GOOD = 0.998


class SlopeArrays(NamedTuple):
    """The weights that gradients are multiplied out of, every neuron scaled by a power of two, and where vectors start.

    Attributes:
        weights: (L, n, max(n, d)), the first layer's along x; zero where there is no neuron.
        output: (n,), the last weights.
        unit: the gradient is so many times that of the scaled network.
        start: (L n + d, RANK) float32: directions of all neurons, vectors of the inputs.
        sweeps: of every node; 0 leaves the program out.
        spared: the share of multipliers and of t that is left to the rounding of a checker, who decomposes the matrix
            of all layers in one piece; multipliers are on the grid of `slopes.grid` then. 0 where none will look.
    """

    weights: FloatArray
    output: FloatArray
    unit: float
    start: np.ndarray
    sweeps: int
    spared: float


@compiled
def _compact(s, widths, signs, d, weights, places, free, sizes):  # type: ignore[no-untyped-def]
    """Weights between neurons that are not silent, free ones before active ones; the output's, (n_L,)."""
    before, count = np.arange(d), d
    for m in range(len(widths)):
        found = 0
        for sign in range(2):
            for i in range(widths[m]):
                if signs[m, i] != sign:
                    continue
                moving = False
                for j in range(count):
                    moving = moving or s.weights[m, i, before[j]] != 0.0
                if moving:
                    places[m, found] = i
                    for j in range(count):
                        weights[m, found, j] = s.weights[m, i, before[j]]
                    found += 1
            if sign == 0:
                free[m] = found
        sizes[m] = found
        before, count = places[m], found
    output = np.empty(count)
    for j in range(count):
        output[j] = s.output[before[j]]
    return output


@compiled
def _forward(weights, places, free, sizes, output, vectors, x, before, lengths, after):  # type: ignore[no-untyped-def]
    """Pre-activations, their lengths, activations; the output's vector."""
    depth, n = places.shape
    for m in range(depth):
        count = len(x) if m == 0 else sizes[m - 1]
        z = x if m == 0 else after[m - 1]
        for i in range(sizes[m]):
            a = np.zeros(RANK)
            for j in range(count):
                w = weights[m, i, j]
                for t in range(RANK):
                    a[t] += w * z[j, t]
            square = 0.0
            for t in range(RANK):
                square += a[t] * a[t]
                before[m, i, t] = a[t]
                after[m, i, t] = a[t]
            lengths[m, i] = np.sqrt(square)
            if i < free[m]:
                row = m * n + places[m, i]
                for t in range(RANK):
                    after[m, i, t] = 0.5 * (a[t] + lengths[m, i] * vectors[row, t])
    y = np.zeros(RANK)
    for j in range(len(output)):
        for t in range(RANK):
            y[t] += output[j] * after[depth - 1, j, t]
    return y


@compiled
def _backward(weights, places, free, sizes, output, y, vectors, before, lengths, multipliers, weight, turn, d):  # type: ignore[no-untyped-def]
    """Turn every direction to its best, from the last layer to the first; the derivative by the inputs, (d, RANK).

    Args:
        multipliers: (L, n), filled for the free neurons.
        weight, turn: (L, n), filled by the neurons' own places: lambda ||a||^2, and the sign that keeps more.
    """
    depth, n = places.shape
    side = max(n, d)
    h = np.zeros((side, RANK))
    for j in range(len(output)):
        for t in range(RANK):
            h[j, t] = output[j] * y[t]
    back = np.empty(RANK)
    for m in range(depth - 1, -1, -1):
        count = d if m == 0 else sizes[m - 1]
        following = np.zeros((side, RANK))
        for i in range(sizes[m]):
            for t in range(RANK):
                back[t] = h[i, t]
            if i < free[m]:
                row = m * n + places[m, i]
                square, along = 0.0, 0.0
                for t in range(RANK):
                    square += h[i, t] * h[i, t]
                    along += h[i, t] * before[m, i, t]
                size = np.sqrt(square)
                multiplier = size / lengths[m, i] if lengths[m, i] > 0.0 else size
                multipliers[m, i] = multiplier
                weight[m, places[m, i]] = size * lengths[m, i]
                turn[m, places[m, i]] = 1 if along > 0.0 else -1
                if size > 0.0:
                    for t in range(RANK):
                        vectors[row, t] = h[i, t] / size
                for t in range(RANK):
                    back[t] = 0.5 * multiplier * (before[m, i, t] + lengths[m, i] * vectors[row, t])
            for j in range(count):
                w = weights[m, i, j]
                for t in range(RANK):
                    following[j, t] += w * back[t]
        h = following
    return h


@compiled
def _into_ball(h, x, shape, q):  # type: ignore[no-untyped-def]
    """x (d, RANK) with sum ||x_k||^p <= 1 that has the largest inner product with h; `shape` gets ||h_k|| / ||x_k||."""
    d = len(x)
    sizes, largest = np.empty(d), 0.0
    for k in range(d):
        square = 0.0
        for t in range(RANK):
            square += h[k, t] * h[k, t]
        sizes[k] = np.sqrt(square)
        largest = max(largest, sizes[k])
    if largest == 0.0:
        return
    q = min(q, 2.0)  # below p = 2 it is the program of p = 2 that counts
    total = 0.0
    for k in range(d):
        sizes[k] = max(sizes[k] / largest, 1e-150)
        total += sizes[k] ** q
    # ||x_k|| = (||h_k|| / ||h||_q)^(q - 1)
    total **= 1.0 - 1.0 / q
    for k in range(d):
        length = sizes[k] ** (q - 1.0) / total
        shape[k] = 1.0 if q == 2.0 else sizes[k] / length
        for t in range(RANK):
            x[k, t] = h[k, t] / largest / sizes[k] * length


@compiled
def slopes_bound(s, widths, signs, first, q, known, sweeps, vectors, codes):  # type: ignore[no-untyped-def]
    """A bound on the length in l_q of every gradient under a partial pattern, proved.

    Args:
        s: SlopeArrays; widths: (L,); signs: (L, n).
        first: the layer that is split next.
        q: the norm of gradients, finite.
        known: a bound that is of use is below it.
        sweeps: at most.
        vectors: (L n + d, RANK), where the ascent begins, changed.
        codes: (L n + d,) int16, filled where something is spared and the bound is finite: multipliers, NO_CODE for
            neurons without one, and the shape of t.
    Returns:
        (bound, inf where nothing better than `known` was proved; neuron of the layer `first` whose split promises most,
        -1 if none does; the sign of it that keeps the bound).
    """
    depth, n = signs.shape
    d = len(vectors) - depth * n
    side = max(n, d)
    weights, places = np.empty((depth, n, side)), np.empty((depth, n), dtype=np.int64)
    free, sizes = np.zeros(depth, dtype=np.int64), np.zeros(depth, dtype=np.int64)
    output = _compact(s, widths, signs, d, weights, places, free, sizes)
    if sizes.min() == 0:
        if s.spared > 0.0:
            free[:] = 0
            write_codes(np.zeros((depth, n)), places, free, np.ones(d), n, codes)
        return 0.0, -1, 1
    before, after = np.empty((depth, n, RANK)), np.empty((depth, n, RANK))
    lengths, multipliers, weight = np.zeros((depth, n)), np.zeros((depth, n)), np.zeros((depth, n))
    turn = np.ones((depth, n), dtype=np.int64)
    x, shape = vectors[depth * n :], np.ones(d)
    reached = 0.0
    for _ in range(sweeps):
        y = _forward(weights, places, free, sizes, output, vectors, x, before, lengths, after)
        now = 0.0
        for t in range(RANK):
            now += y[t] * y[t]
        reached = max(reached, np.sqrt(now))
        h = _backward(
            weights, places, free, sizes, output, y, vectors, before, lengths, multipliers, weight, turn, d
        )  # fmt: skip
        _into_ball(h, x, shape, q)
        # What is reached is a lower bound of the program's optimum, in the norm of p >= 2.
        if q <= 2.0 and reached * s.unit >= AS_GOOD * known:
            break
    neuron, best, prefer = -1, 0.0, 1
    for i in range(widths[first] if first < depth else 0):
        if signs[first, i] == 0 and weight[first, i] > best:
            neuron, best, prefer = i, weight[first, i], turn[first, i]
    if q <= 2.0 and reached * s.unit >= AS_GOOD * known:
        return np.inf, neuron, prefer
    floored = shape.max() * LEAST_SHARE
    for k in range(d):
        shape[k] = max(shape[k], floored)
        if s.spared > 0.0:
            shape[k] = from_code(code_above(shape[k]))
    h, following = np.empty((side, side)), np.empty((side, side))
    matrix, b = np.empty((side, side)), np.empty((side, side))
    raised, bound = np.zeros((depth, n)), np.inf
    for room in ROOMS:
        raise_multipliers(multipliers, free, room, s.spared > 0.0, raised)
        if eliminate(weights, free, sizes, output, raised, s.spared, d, h, following, matrix, b):
            # What is spared of t, and as much again for what a checker loses in numbers that it finds itself.
            bound = proved_length(h, d, shape, q, matrix, b) * s.unit * (1.0 + 4.0 * s.spared)
            if bound < np.inf:
                if s.spared > 0.0:
                    write_codes(raised, places, free, shape, n, codes)
                break
    return bound, neuron, prefer
