"""Compiled subdivision of cells: one layer after the other, depth first, so that only one path of cells is in memory.

A cell is a polytope given by its vertices, each with the mask of all facets that pass through it. A kink that has
vertices on both sides splits the cell; the new vertices lie on the edges whose ends have opposite signs. Two vertices
are joined by an edge exactly if no third one lies on all facets that they share (Fukuda and Prodon 1996). Since all
signs are exact, so is the combinatorics: no region is missed, none is invented.

`advance` works on a stack in arrays that its caller owns. It returns when it needs something: room, time, an exact
sign, someone to look at a region; called again, it goes on from there.

Source: Berzins 2023, Polyhedral Complex Extraction from ReLU Networks using Edge Subdivision, for subdivision through
signs at vertices.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from solvers.lipschitz.region_geometry import DOUBT, UNIT, bits, compose, count_bits, inner, locate, sign_by_structure
from solvers.norms import FloatArray

__all__ = [
    "DONE",
    "DRAIN",
    "GROW",
    "IMPROVED",
    "PAUSED",
    "QUESTION",
    "REGIONS",
    "STEPS",
    "TOP",
    "Emission",
    "Questions",
    "Record",
    "Stack",
    "advance",
]

# Why `advance` came back.
DONE, PAUSED, GROW, QUESTION, IMPROVED, DRAIN = range(6)
# Places in `Stack.state`: index of the topmost cell, regions and steps so far, whether the topmost region was looked
# at, questions about the topmost cell that were answered, and all that were asked.
TOP, REGIONS, STEPS, SEEN, ANSWERED, ASKED = range(6)
# Columns of `Stack.cells`.
START, COUNT, LAYER, NEXT = range(4)

# Vertices are interpolated along their edges up to this error, relative to the narrowest side of the box.
INTERPOLATED = 1e-11

_ONE, _ZERO = np.uint64(1), np.uint64(0)


class Stack(NamedTuple):
    """Cells that wait, the last one on top.

    Attributes:
        cells: (C, 4): first vertex and number of vertices in the pool, layer, and the next kink of the layer to try, -1
            before the layer is looked at.
        signs: (C, L, n) int8; 0 for undecided and for identically zero pre-activations.
        points (P, k + 1), masks (P, W): the pool of vertices; the last column bounds the error of the coordinates.
        crossing (L, n), crossings (L,): neurons of a layer that change sign on the current cell of the layer below.
        base: (d,): part of the gradient that is common to all regions of the current cell of the last layer but one.
        state: counters.
        new_points, new_masks, old_points, old_masks, pairs (Q, 2), side (Q,), values (Q, 2): room for a split; values
            hold a pre-activation and its tolerance.
        sides (2, n), sums (n,): vertices below and above every kink of a layer, pre-activations.
    """

    cells: NDArray[np.int64]
    signs: NDArray[np.int8]
    points: FloatArray
    masks: NDArray[np.uint64]
    crossing: NDArray[np.int64]
    crossings: NDArray[np.int64]
    base: FloatArray
    state: NDArray[np.int64]
    new_points: FloatArray
    new_masks: NDArray[np.uint64]
    old_points: FloatArray
    old_masks: NDArray[np.uint64]
    pairs: NDArray[np.int64]
    side: NDArray[np.int8]
    values: FloatArray
    sides: NDArray[np.int64]
    sums: FloatArray


class Questions(NamedTuple):
    """Signs that exact arithmetic has to tell: of `neuron` of the topmost cell's layer at pool row `vertex`."""

    vertex: NDArray[np.int64]
    neuron: NDArray[np.int64]
    sign: NDArray[np.int8]


class Record(NamedTuple):
    """Longest gradients.

    Attributes:
        exponents: (E,) dual exponents.
        top: (E,): largest norm so far.
        screen: (E,): regions with longer gradients are shown to the caller.
        gradient: (d,), of the last region.
    """

    exponents: FloatArray
    top: FloatArray
    screen: FloatArray
    gradient: FloatArray


class Emission(NamedTuple):
    """Regions for the caller: signs (R, L, n), gradients (R, d), first vertex and number (R, 2), vertices (V, k).

    `used` holds the numbers of regions and vertices written; no regions are written where R = 0.
    """

    signs: NDArray[np.int8]
    gradients: FloatArray
    spans: NDArray[np.int64]
    points: FloatArray
    used: NDArray[np.int64]


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
        if state[REGIONS] >= most_regions:
            return PAUSED
        state[STEPS] += 1
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
        if stack.cells[c, NEXT] == stack.crossings[m]:
            if m < depth - 1:
                stack.cells[c, LAYER] = m + 1
                stack.cells[c, NEXT] = -1
                continue
            code = _region(net, cell, stack, record, emission, c, m)
            if code != DONE:
                return code
            state[TOP] -= 1
            state[REGIONS] += 1
            state[SEEN] = 0
            continue
        code = _split(net, cell, solver, stack, questions, c, m)
        if code != DONE:
            return code
        state[ANSWERED] = 0
    return PAUSED


@inner
def _answer(stack, questions, asked, i, v):  # type: ignore[no-untyped-def]
    """The sign that was told for the question with number `asked`; DOUBT enters it as a new one."""
    if asked < stack.state[ANSWERED]:
        return np.int64(questions.sign[asked]), asked + 1
    if asked < len(questions.sign):
        questions.vertex[asked] = v
        questions.neuron[asked] = i
        asked += 1
    return DOUBT, asked


@inner
def _mark(stack, v, facet):  # type: ignore[no-untyped-def]
    stack.masks[v, facet >> 6] |= _ONE << np.uint64(facet & 63)


@inner
def _count_sides(net, cell, stack, c, m):  # type: ignore[no-untyped-def]
    """How many vertices of a cell lie on either side of every kink of a layer, as far as float64 is certain."""
    first, total, width, k = stack.cells[c, START], stack.cells[c, COUNT], net.widths[m], len(net.low)
    rows, errors, sizes, lengths = cell.rows[m], cell.errors[m], cell.sizes[m], cell.lengths[m]
    below, above, values = stack.sides[0], stack.sides[1], stack.sums
    unit = 1.01 * (k + 4) * UNIT
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
def _look(net, cell, stack, questions, asked, c, m, i):  # type: ignore[no-untyped-def]
    """Sides of all vertices of a cell at one kink, in `side`, with values and tolerances where no question is open.

    Returns:
        Vertices below, above, in doubt; questions asked in all.
    """
    first, total, k = stack.cells[c, START], stack.cells[c, COUNT], len(net.low)
    fixed = 1.01 * (cell.errors[m, i] + (k + 4) * UNIT * cell.sizes[m, i])
    length = 1.01 * cell.lengths[m, i]
    below, above, doubts = 0, 0, 0
    for r in range(total):
        v = first + r
        value = cell.rows[m, k, i]
        for t in range(k):
            value += cell.rows[m, t, i] * stack.points[v, t]
        tolerance = fixed + length * stack.points[v, k]
        stack.values[r, 0] = value
        stack.values[r, 1] = tolerance
        if value > tolerance:
            s = 1
        elif value < -tolerance:
            s = -1
        else:
            s = sign_by_structure(net, cell, m, i, stack.masks[v], stack.signs[c])
            if s == DOUBT:
                s, asked = _answer(stack, questions, asked, i, v)
        stack.side[r] = s
        if s == DOUBT:
            doubts += 1
        elif s > 0:
            above += 1
        elif s < 0:
            below += 1
    return below, above, doubts, asked


@inner
def _open_layer(net, cell, stack, questions, c, m):  # type: ignore[no-untyped-def]
    """Decide all neurons of a layer that keep one sign on the cell, list the others; False where signs are asked for."""
    total, signs, k = stack.cells[c, COUNT], stack.signs[c], len(net.low)
    crossings, asked, complete = 0, 0, True
    _count_sides(net, cell, stack, c, m)
    for i in range(net.widths[m]):
        if net.head[m, i] != i:
            continue
        if net.facet[m, i] < 2 * k:
            signs[m, i] = 1  # carries a coordinate that is never negative
            continue
        below, above = stack.sides[0, i], stack.sides[1, i]
        if below + above < total and (below == 0 or above == 0):
            below, above, doubts, asked = _look(net, cell, stack, questions, asked, c, m, i)
            if doubts > 0:
                complete = False
                continue
            if (below == 0) != (above == 0):
                for r in range(total):
                    if stack.side[r] == 0:
                        _mark(stack, stack.cells[c, START] + r, net.facet[m, i])
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
def _split(net, cell, solver, stack, questions, c, m):  # type: ignore[no-untyped-def]
    """Cut the topmost cell along the next crossing kink, or decide it where it no longer crosses."""
    i = stack.crossing[m, stack.cells[c, NEXT]]
    first, total = stack.cells[c, START], stack.cells[c, COUNT]
    k, words = len(net.low), stack.masks.shape[1]
    facet = net.facet[m, i]
    below, above, doubts, asked = _look(net, cell, stack, questions, 0, c, m, i)
    if doubts > 0:
        stack.state[ASKED] = asked
        return QUESTION
    if above == 0 or below == 0:
        for r in range(total):
            if stack.side[r] == 0:
                _mark(stack, first + r, facet)
        _decide(net, stack, c, m, i, 1 if above > 0 else -1)
        stack.cells[c, NEXT] += 1
        return DONE
    fresh = 0
    for a in range(total):
        if stack.side[a] <= 0:
            continue
        simple = count_bits(stack.masks[first + a]) == k
        for b in range(total):
            if stack.side[b] >= 0:
                continue
            shared = 0
            for w in range(words):
                shared += bits(stack.masks[first + a, w] & stack.masks[first + b, w])
            if shared < k - 1:
                continue
            for w in range(words):
                stack.new_masks[fresh, w] = stack.masks[first + a, w] & stack.masks[first + b, w]
            if not (simple or count_bits(stack.masks[first + b]) == k) and _covered(stack, first, total, a, b, fresh):
                continue
            stack.pairs[fresh, 0] = a
            stack.pairs[fresh, 1] = b
            fresh += 1
            if fresh == len(stack.side) - 1:
                return GROW
    if first + 2 * (total + fresh) > len(stack.points) or total + fresh > len(stack.side):
        return GROW
    for r in range(fresh):
        stack.new_masks[r, facet >> 6] |= _ONE << np.uint64(facet & 63)
        _place(net, cell, solver, stack, first, r)
    for r in range(total):
        if stack.side[r] == 0:
            _mark(stack, first + r, facet)
        for t in range(k + 1):
            stack.old_points[r, t] = stack.points[first + r, t]
        for w in range(words):
            stack.old_masks[r, w] = stack.masks[first + r, w]
    middle = _write(stack, first, total, fresh, -1)
    end = _write(stack, middle, total, fresh, 1)
    stack.cells[c, COUNT] = middle - first
    stack.cells[c, NEXT] += 1
    stack.cells[c + 1, START] = middle
    stack.cells[c + 1, COUNT] = end - middle
    stack.cells[c + 1, LAYER] = m
    stack.cells[c + 1, NEXT] = stack.cells[c, NEXT]
    for layer in range(m + 1):
        for j in range(net.widths[layer]):
            stack.signs[c + 1, layer, j] = stack.signs[c, layer, j]
    _decide(net, stack, c, m, i, -1)
    _decide(net, stack, c + 1, m, i, 1)
    stack.state[TOP] = c + 1
    return DONE


@inner
def _place(net, cell, solver, stack, first, r):  # type: ignore[no-untyped-def]
    """Coordinates of a new vertex and a bound on their error: between the ends of its edge, or from its facets.

    On the edge, at t* = s_a* / (s_a* - s_b*), the error is at most the larger one of the ends, plus |t - t*| times the
    edge, with |t - t*| <= (largest error of s_a, s_b) / (s_a* - s_b*). Errors grow from edge to edge; when they are no
    longer tiny the vertex is computed afresh.
    """
    a, b = stack.pairs[r, 0], stack.pairs[r, 1]
    va, vb = first + a, first + b
    k = len(net.low)
    above, below = stack.values[a, 0], -stack.values[b, 0]
    slack_a, slack_b = stack.values[a, 1], stack.values[b, 1]
    error, share, narrow = np.inf, 0.5, np.inf
    for t in range(k):
        narrow = min(narrow, net.high[t] - net.low[t])
    if above > slack_a and below > slack_b:
        share = above / (above + below)
        edge, size = 0.0, 0.0
        for t in range(k):
            edge = max(edge, abs(stack.points[va, t] - stack.points[vb, t]))
            size = max(size, abs(stack.points[va, t]), abs(stack.points[vb, t]))
        gap = (above - slack_a) + (below - slack_b)
        error = max(stack.points[va, k], stack.points[vb, k])
        error += 1.01 * (max(slack_a, slack_b) / gap + 4.0 * UNIT) * edge + 4.0 * UNIT * size
    if not error <= INTERPOLATED * narrow:
        exact = locate(net, cell, stack.new_masks[r], solver)
        if not exact >= error:
            stack.new_points[r, k] = exact
            for t in range(k):
                stack.new_points[r, t] = solver.place[t]
            return
    stack.new_points[r, k] = error
    for t in range(k):
        stack.new_points[r, t] = stack.points[va, t] + share * (stack.points[vb, t] - stack.points[va, t])


@inner
def _decide(net, stack, c, m, head, sign):  # type: ignore[no-untyped-def]
    """Enter the sign of a neuron and of those whose rows are its multiples."""
    j = head
    while j >= 0:
        stack.signs[c, m, j] = sign * net.turn[m, j]
        j = net.sibling[m, j]


@inner
def _covered(stack, first, total, a, b, fresh):  # type: ignore[no-untyped-def]
    """Whether a third vertex lies on all facets that two share, as written in new_masks[fresh]: then no edge joins them."""
    words = stack.masks.shape[1]
    for r in range(total):
        if r == a or r == b:
            continue
        inside = True
        for w in range(words):
            if stack.new_masks[fresh, w] & ~stack.masks[first + r, w] != _ZERO:
                inside = False
                break
        if inside:
            return True
    return False


@inner
def _write(stack, at, total, fresh, side):  # type: ignore[no-untyped-def]
    """Vertices of one half of a split cell, from row `at` of the pool on; returns the row behind them."""
    columns, words = stack.points.shape[1], stack.masks.shape[1]
    for r in range(total):
        if stack.side[r] == side or stack.side[r] == 0:
            for t in range(columns):
                stack.points[at, t] = stack.old_points[r, t]
            for w in range(words):
                stack.masks[at, w] = stack.old_masks[r, w]
            at += 1
    for r in range(fresh):
        for t in range(columns):
            stack.points[at, t] = stack.new_points[r, t]
        for w in range(words):
            stack.masks[at, w] = stack.new_masks[r, w]
        at += 1
    return at


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
