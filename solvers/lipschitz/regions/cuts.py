"""Compiled cuts: which side of a kink the vertices of a cell lie on, and the two halves of a cell that it crosses.

Two vertices of a polytope are joined by an edge exactly if no third one lies on all facets that they share [FP96]. New
vertices lie on the edges whose ends have opposite signs.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.rounding import EPSILON
from solvers.lipschitz.regions.geometry import DOUBT, bits, count_bits, inner, locate, sign_by_structure
from solvers.lipschitz.regions.state import (
    ANSWERED,
    ASKED,
    COUNT,
    DONE,
    FRESH,
    GROW,
    LAYER,
    NEXT,
    QUESTION,
    START,
    TOP,
)

__all__ = ["look", "mark", "split"]

# Vertices are interpolated along their edges up to this error, relative to the narrowest side of the box.
INTERPOLATED = 1e-11


_ONE, _ZERO = np.uint64(1), np.uint64(0)


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
def mark(stack, v, facet):  # type: ignore[no-untyped-def]
    stack.masks[v, facet >> 6] |= _ONE << np.uint64(facet & 63)


@inner
def look(net, cell, stack, questions, asked, c, m, i):  # type: ignore[no-untyped-def]
    """Sides of all vertices of a cell at one kink, in `side`, with values and tolerances where no question is open.

    Returns:
        Vertices below, above, in doubt; questions asked in all.
    """
    first, total, k = stack.cells[c, START], stack.cells[c, COUNT], len(net.low)
    fixed = 1.01 * (cell.errors[m, i] + (k + 4) * EPSILON * cell.sizes[m, i])
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
def split(net, cell, solver, stack, questions, c, m):  # type: ignore[no-untyped-def]
    """Cut the topmost cell along the next crossing kink, or decide it where it no longer crosses."""
    i = stack.crossing[m, stack.cells[c, NEXT]]
    first, total = stack.cells[c, START], stack.cells[c, COUNT]
    k, words = len(net.low), stack.masks.shape[1]
    facet = net.facet[m, i]
    below, above, doubts, asked = look(net, cell, stack, questions, 0, c, m, i)
    if doubts > 0:
        stack.state[ASKED] = asked
        return QUESTION
    if above == 0 or below == 0:
        for r in range(total):
            if stack.side[r] == 0:
                mark(stack, first + r, facet)
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
            mark(stack, first + r, facet)
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
    stack.cells[c, FRESH] = 1
    stack.cells[c + 1, FRESH] = 1
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
        error += 1.01 * (max(slack_a, slack_b) / gap + 4.0 * EPSILON) * edge + 4.0 * EPSILON * size
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
    """Whether a third vertex lies on all facets of new_masks[fresh], those that two share: then no edge joins them."""
    words = stack.masks.shape[1]
    for r in range(total):
        if r in (a, b):
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
