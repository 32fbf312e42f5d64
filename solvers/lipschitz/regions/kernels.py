"""Compiled subdivision of cells: one layer after the other, depth first, so that only one path of cells is in memory.

A cell is a polytope given by its vertices, each with the mask of all facets that pass through it. A kink that has
vertices on both sides splits the cell (`cuts`). Since all signs are exact, so is the combinatorics: no region is
missed, none is invented.

`advance` works on a stack in arrays that its caller owns (`regions.state`). It returns when it needs something: room,
time, an exact sign, someone to look at a region; called again, it goes on from there.

Source: [Ber23] for subdivision through signs at vertices.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.rounding import EPSILON
from solvers.lipschitz.regions.cuts import look, mark, split
from solvers.lipschitz.regions.geometry import compose, inner
from solvers.lipschitz.regions.state import (
    ANSWERED,
    ASKED,
    CELLS_TAKEN,
    COUNT,
    DONE,
    DRAIN,
    FRESH,
    IMPROVED,
    LAYER,
    NEXT,
    PASSED,
    PAUSED,
    QUESTION,
    REGIONS_MET,
    SEEN,
    START,
    TOP,
)

__all__ = ["advance"]


@compiled(error_model="numpy")
def advance(net, cell, solver, stack, questions, record, emission, most_steps, most_regions):  # type: ignore[no-untyped-def]
    """Subdivide until nothing is left or something is needed.

    Args:
        most_steps: steps of this call; most_regions: regions in all.
    """
    depth = len(net.widths)
    state = stack.state
    for _ in range(most_steps):
        c = state[TOP]
        if c < 0:
            return DONE
        if state[REGIONS_MET] >= most_regions:
            return PAUSED
        state[CELLS_TAKEN] += 1
        m = stack.cells[c, LAYER]
        if stack.cells[c, NEXT] < 0:
            if state[ANSWERED] == 0:
                compose(net, cell, m, stack.signs[c])
            if not _open_layer(net, cell, stack, questions, c, m):
                return QUESTION
            state[ANSWERED] = 0
            stack.cells[c, NEXT] = 0
            if m == depth - 1:
                _common_gradient(net, cell, stack, c, m)
            stack.cells[c, FRESH] = 1
        if stack.cells[c, FRESH] == 1:
            stack.cells[c, FRESH] = 0
            # In earlier layers the bound costs as much as opening the next one, where it is tighter.
            opened = stack.cells[c, NEXT] == 0
            if not record.every[0] and (opened or m == depth - 1) and _hopeless(net, cell, stack, record, c, m):
                state[TOP] -= 1
                state[PASSED] += 1
                continue
        if stack.cells[c, NEXT] == stack.crossings[m]:
            if m < depth - 1:
                stack.cells[c, LAYER] = m + 1
                stack.cells[c, NEXT] = -1
                continue
            code = _region(net, cell, stack, record, emission, c, m)
            if code != DONE:
                return code
            state[TOP] -= 1
            state[REGIONS_MET] += 1
            state[SEEN] = 0
            continue
        code = split(net, cell, solver, stack, questions, c, m)
        if code != DONE:
            return code
        state[ANSWERED] = 0
    return PAUSED


@inner
def _count_sides(net, cell, stack, c, m):  # type: ignore[no-untyped-def]
    """How many vertices of a cell lie on either side of every kink of a layer, as far as float64 is certain."""
    first, total, width, k = stack.cells[c, START], stack.cells[c, COUNT], net.widths[m], len(net.low)
    rows, errors, sizes, lengths = cell.rows[m], cell.errors[m], cell.sizes[m], cell.lengths[m]
    below, above, values = stack.sides[0], stack.sides[1], stack.sums
    unit = 1.01 * (k + 4) * EPSILON
    for i in range(width):
        below[i] = 0
        above[i] = 0
    for v in range(first, first + total):
        for i in range(width):
            values[i] = rows[k, i]
        for t in range(k):
            x = stack.points[v, t]
            for i in range(width):
                values[i] += rows[t, i] * x
        error = 1.01 * stack.points[v, k]
        for i in range(width):
            tolerance = 1.01 * errors[i] + unit * sizes[i] + lengths[i] * error
            above[i] += values[i] > tolerance
            below[i] += values[i] < -tolerance


@inner
def _open_layer(net, cell, stack, questions, c, m):  # type: ignore[no-untyped-def]
    """Decide the neurons of a layer that keep one sign on the cell, list the others; False where it asks for signs."""
    total, signs = stack.cells[c, COUNT], stack.signs[c]
    crossings, asked, complete = 0, 0, True
    _count_sides(net, cell, stack, c, m)
    for i in range(net.widths[m]):
        if net.head[m, i] != i:
            continue
        if net.facet[m, i] < len(net.given):
            signs[m, i] = 1  # carries a coordinate that is never negative
            continue
        below, above = stack.sides[0, i], stack.sides[1, i]
        if below + above < total and (below == 0 or above == 0):
            below, above, doubts, asked = look(net, cell, stack, questions, asked, c, m, i)
            if doubts > 0:
                complete = False
                continue
            if (below == 0) != (above == 0):
                for r in range(total):
                    if stack.side[r] == 0:
                        mark(stack, stack.cells[c, START] + r, net.facet[m, i])
        if above > 0 and below > 0:
            signs[m, i] = 0
            stack.crossing[m, crossings] = i
            crossings += 1
        else:
            signs[m, i] = 1 if above > 0 else (-1 if below > 0 else 0)
    if not complete:
        stack.state[ASKED] = asked
        return False
    for i in range(net.widths[m]):
        signs[m, i] = signs[m, net.head[m, i]] * net.turn[m, i]
    stack.crossings[m] = crossings
    return True


@inner
def _add_gradient(net, cell, m, i, total):  # type: ignore[no-untyped-def]
    u = net.output[i]
    if net.separate:
        for t in range(len(total)):
            total[t] += u * cell.gradients[m, t, i]
    else:
        for t in range(len(total)):
            total[t] += u * cell.rows[m, t, i]


@inner
def _common_gradient(net, cell, stack, c, m):  # type: ignore[no-untyped-def]
    """Gradient of the neurons of the last layer that are active all over the cell."""
    for t in range(len(stack.base)):
        stack.base[t] = 0.0
    for i in range(net.widths[m]):
        if stack.signs[c, m, i] > 0:
            _add_gradient(net, cell, m, i, stack.base)


@inner
def _slope(net, cell, m, t, i):  # type: ignore[no-untyped-def]
    """Derivative of a pre-activation along input t."""
    return cell.gradients[m, t, i] if net.separate else cell.rows[m, t, i]


@inner
def _hopeless(net, cell, stack, record, c, m):  # type: ignore[no-untyped-def]
    """Whether no gradient on a cell whose layer m is open is longer than what is known, for any exponent.

    Every derivative is enclosed in an interval: neurons that do not cross the cell contribute what they do, the others
    anything between that and 0, those of later layers likewise. All roundings are covered by the slack that the caller
    adds to the longest gradient (`witnesses.rounding_slack` allows for sums in any order).
    """
    depth, reach = len(net.widths), stack.reach
    if len(record.exponents) == 0 or max(record.top[0], record.floor[0]) < 0.0:
        return False
    low, high, next_low, next_high = stack.ranges[0], stack.ranges[1], stack.ranges[2], stack.ranges[3]
    for t in range(len(reach)):
        for i in range(net.widths[m]):
            slope, sign = _slope(net, cell, m, t, i), stack.signs[c, m, i]
            low[i] = slope if sign > 0 else (min(slope, 0.0) if sign == 0 else 0.0)
            high[i] = slope if sign > 0 else (max(slope, 0.0) if sign == 0 else 0.0)
        for layer in range(m + 1, depth):
            for i in range(net.widths[layer]):
                next_low[i] = 0.0
                next_high[i] = 0.0
            for j in range(net.widths[layer - 1]):
                a, b = low[j], high[j]
                if a != 0.0 or b != 0.0:
                    for i in range(net.widths[layer]):
                        w = net.weights[layer, j, i]
                        next_low[i] += min(w * a, w * b)
                        next_high[i] += max(w * a, w * b)
            for i in range(net.widths[layer]):
                low[i] = min(next_low[i], 0.0)
                high[i] = max(next_high[i], 0.0)
        below, above = 0.0, 0.0
        for i in range(net.widths[depth - 1]):
            a, b = net.output[i] * low[i], net.output[i] * high[i]
            below += min(a, b)
            above += max(a, b)
        reach[t] = max(-below, above)
    for e in range(len(record.exponents)):
        known = max(min(record.top[e], record.screen[e]), record.floor[e])
        if not _length(reach, record.exponents[e]) * (1.0 + 1e-12) <= known:
            return False
    return True


@inner
def _length(sizes, q):  # type: ignore[no-untyped-def]
    """l_q norm of numbers >= 0."""
    total, largest = 0.0, 0.0
    for t in range(len(sizes)):
        total += sizes[t]
        largest = max(largest, sizes[t])
    if q == 1.0:
        return total
    if np.isinf(q) or largest == 0.0:
        return largest
    power = 0.0
    for t in range(len(sizes)):
        ratio = sizes[t] / largest
        power += ratio * ratio if q == 2.0 else ratio**q
    return largest * power ** (1.0 / q)


@inner
def _region(net, cell, stack, record, emission, c, m):  # type: ignore[no-untyped-def]
    """Measure a finished region, show it where it is the best so far, hand it out where asked."""
    g = record.gradient
    for t in range(len(g)):
        g[t] = stack.base[t]
    for r in range(stack.crossings[m]):
        i = stack.crossing[m, r]
        while i >= 0:
            if stack.signs[c, m, i] > 0:
                _add_gradient(net, cell, m, i, g)
            i = net.sibling[m, i]
    if stack.state[SEEN] == 0:
        stack.state[SEEN] = 1
        if _measure(record):
            return IMPROVED
    if len(emission.spans) > 0:
        r, v = emission.used[0], emission.used[1]
        total = stack.cells[c, COUNT]
        if r == len(emission.spans) or v + total > len(emission.points):
            return DRAIN
        for layer in range(m + 1):
            for i in range(net.widths[layer]):
                emission.signs[r, layer, i] = stack.signs[c, layer, i]
        for t in range(len(g)):
            emission.gradients[r, t] = g[t]
        for i in range(total):
            for t in range(len(net.low)):
                emission.points[v + i, t] = stack.points[stack.cells[c, START] + i, t]
        emission.spans[r, 0] = v
        emission.spans[r, 1] = total
        emission.used[0] += 1
        emission.used[1] += total
    return DONE


@inner
def _measure(record):  # type: ignore[no-untyped-def]
    """Norms of the gradient; whether one is above its screen. Powers are taken only where a cheap bound allows more."""
    g = record.gradient
    d = len(g)
    total, square, largest = 0.0, 0.0, 0.0
    for t in range(d):
        size = abs(g[t])
        total += size
        square += size * size
        largest = max(largest, size)
    euclid = np.sqrt(square) if 1e-140 < largest < 1e140 else total
    improved = False
    for e in range(len(record.exponents)):
        q = record.exponents[e]
        if q == 1.0:
            length = total
        elif np.isinf(q):
            length = largest
        elif q == 2.0 and 1e-140 < largest < 1e140:
            length = euclid
        else:
            reach = euclid if q > 2.0 else min(total, euclid * d ** (1.0 / q - 0.5))
            if reach * (1.0 + 1e-12) <= min(record.top[e], record.screen[e]):
                continue
            length = 0.0
            if largest > 0.0:
                for t in range(d):
                    length += (abs(g[t]) / largest) ** q
                length = largest * length ** (1.0 / q)
        record.top[e] = max(record.top[e], length)
        if length > record.screen[e]:
            improved = True
    return improved
