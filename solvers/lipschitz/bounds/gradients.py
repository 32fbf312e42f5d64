"""Compiled bounds on the length of every gradient of a node.

At the first undecided layer grad f = sum_i d_i u_i r_i with known rows r_i, d_i in {0, 1} (or 1 where active), u_i in
a range: a zonotope. Its longest vector in l_q is bounded

- where ||g||_q is the largest |<g, c>| over finitely many c (q = inf; q = 1 in few dimensions), for every c by itself:
  the dual view, in which each neuron takes its best value;
- otherwise by ranges of the components, along the axes and along axes turned to the middle of the ranges, by a
  diagonal that dominates the Gram matrix of the zonotope's generators, and by chords: |g_k|^q lies below its chord over
  the range of g_k, and the sum of the chords is one direction, in which each neuron takes its best value.

The range of <g, c> is found at the first undecided layer with the ranges u_i, and again at every later layer, with
ranges of the derivative along c carried forward to it: what earlier layers decide is then known for all neurons alike.

Sources: `directions` for the dual view; Hoelder's inequality between l_1, l_2 and l_inf; [BN01, section 4.3] for maxima
of convex quadratic forms over a cube by a dominating diagonal.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW
from solvers.lipschitz.bounds.lengths import dominated_length, length_of, unit_of
from solvers.lipschitz.bounds.ranges import carry_forward, pull_back

__all__ = ["gradient_bound", "gradient_of", "node_slack"]

# Rounding of a gradient, relative to the floor, up to which the bound of the whole piece is as good as a node's own.
NEGLIGIBLE = 1e-9


@compiled
def node_slack(k, signs, floor):  # type: ignore[no-untyped-def]
    """Bound on the rounding of everything that is computed of the gradients of a node, in l_q.

    `k.slack`, four times `witnesses.rounding_slack`, holds for every pattern. Where that is too much, its product
    |W_L| ... |W_0| is taken over the neurons that may be active in the node alone: what inactive ones add is exactly 0
    in rows, ranges and gradients alike, so all that is rounded are sums along paths through the others.

    Args:
        k: KernelArrays.
        signs: (L, n); floor: what bounds are compared with.
    """
    if k.slack <= NEGLIGIBLE * floor:
        return k.slack
    depth, d = len(k.widths), k.inputs.shape[1]
    sizes, terms = np.abs(k.output), float(depth + d + 2)
    for m in range(depth - 1, -1, -1):
        following = np.zeros(len(sizes) if m > 0 else d)
        for i in range(k.widths[m]):
            if signs[m, i] < 0:
                continue
            terms += 1.0
            if sizes[i] == 0.0:
                continue
            if m > 0:
                for j in range(k.widths[m - 1]):
                    if k.weights[m, i, j] != 0.0:
                        following[j] += sizes[i] * abs(k.weights[m, i, j]) + UNDERFLOW
            else:
                for t in range(d):
                    if k.inputs[i, t] != 0.0:
                        following[t] += sizes[i] * abs(k.inputs[i, t]) + UNDERFLOW
        sizes = following
    length = length_of(sizes, k.q)
    return min(k.slack, 8.0 * EPSILON * terms * length + UNDERFLOW) if length > 0.0 else 0.0


@compiled
def gradient_of(weights, widths, output, inputs, signs):  # type: ignore[no-untyped-def]
    """The gradient (d,) of a full pattern."""
    row = output.copy()
    for m in range(len(widths) - 1, 0, -1):
        following = np.zeros(len(output))
        for i in range(widths[m]):
            if signs[m, i] > 0:
                for j in range(widths[m - 1]):
                    following[j] += row[i] * weights[m, i, j]
        row = following
    gradient = np.zeros(inputs.shape[1])
    for i in range(widths[0]):
        if signs[0, i] > 0:
            for t in range(inputs.shape[1]):
                gradient[t] += row[i] * inputs[i, t]
    return gradient


@compiled
def _component_ranges(rows, low, high, count, v, largest, smallest):  # type: ignore[no-untyped-def]
    """Ranges of the components of g = sum_i x_i rows_i, x_i in [low_i, high_i], mirrored along v (not, for v = 0)."""
    d = rows.shape[1]
    square = 0.0
    for t in range(d):
        largest[t] = 0.0
        smallest[t] = 0.0
        square += v[t] * v[t]
    for i in range(count):
        if low[i] == 0.0 and high[i] == 0.0:
            continue
        along = 0.0
        if square > 0.0:
            for t in range(d):
                along += rows[i, t] * v[t]
            along *= 2.0 / square
        for t in range(d):
            s = rows[i, t] - along * v[t]
            x, y = low[i] * s, high[i] * s
            largest[t] += max(x, y)
            smallest[t] += min(x, y)


@compiled
def _mirror(axis):  # type: ignore[no-untyped-def]
    """v such that I - 2 v v' / |v|^2 (Householder) turns the axis to the first one."""
    v = np.zeros(len(axis))
    size = np.sqrt((axis * axis).sum())
    if size > 0.0:
        v[:] = axis / size
        v[0] += 1.0 if v[0] >= 0.0 else -1.0
    return v


@compiled
def _chord_length(weights, widths, signs, first, c_low, c_high, rows, smallest, largest, q):  # type: ignore[no-untyped-def]
    """A bound in l_q, q < inf, from ranges of the components: sum |g_k|^q <= sum of chords, maximised jointly."""
    d, count = rows.shape[1], widths[first]
    reach = np.maximum(largest, -smallest)
    size = length_of(reach, q)
    scale = length_of(reach, np.inf)
    if scale == 0.0:
        return 0.0
    slopes = np.zeros(d)
    total, sizes = 0.0, 0.0
    for k in range(d):
        left, right = smallest[k] / scale, largest[k] / scale
        at_left, at_right = abs(left) ** q, abs(right) ** q
        if right - left > 1e-6 * max(abs(left), abs(right)):
            slopes[k] = (at_right - at_left) / (right - left)
            total += at_left - slopes[k] * left
        else:
            total += max(at_left, at_right)
        sizes += at_left + at_right + abs(slopes[k]) * max(abs(left), abs(right))
    along = np.zeros((count, 1))
    least, most = np.zeros(1), np.zeros(1)
    for i in range(count):
        s = 0.0
        for k in range(d):
            s += rows[i, k] * slopes[k]
        along[i, 0] = s
        most[0] += max(c_low[first, i] * s, c_high[first, i] * s)
        least[0] += min(c_low[first, i] * s, c_high[first, i] * s)
    carry_forward(weights, widths, signs, first, c_low, c_high, along, least, most)
    total += most[0] / scale + 1e-15 * (d + count + 8) * sizes
    # Rounding of the rows weighs (size / bound)^(q - 1) times more than in a norm, so that is kept below 8.
    floor = size * 8.0 ** (-1.0 / (q - 1.0)) if q > 1.0 else 0.0
    return max(scale * max(total, 0.0) ** (1.0 / q), floor)


# Arguments are plain arrays, as in `bounds.ranges`: what a kernel reads and changes stands in its signature.
@compiled
def _best_directions(  # type: ignore[no-untyped-def]
    weights, widths, signs, first, c_low, c_high, rows, directions, along_inputs, chosen, left, q, floor
):
    """The dual view: the largest reach over the chosen directions; those that stay below the floor leave the list.

    Args:
        c_low, c_high: (L, n): ranges of the coefficient of every neuron's row.
        directions: (d, C), for q = inf the axes; chosen: (C',), its first `left` entries count; compacted in place.
        along_inputs: (n, C): <rows_i, c>, where the rows are the inputs themselves; else of length 0.
    Returns:
        (bound, directions left, index of the best, whether it is reached with its sign turned).
    """
    d, count = rows.shape[1], widths[first]
    low, high = c_low[first], c_high[first]
    known, axes = len(along_inputs) > 0, np.isinf(q)
    # <g, c> lies between centre - spread and centre + spread.
    centre, spread, along = np.zeros(left), np.zeros(left), np.empty(left)
    packed = np.empty((0 if known or axes else d, left))
    for t in range(len(packed)):
        for e in range(left):
            packed[t, e] = directions[t, chosen[e]]
    for i in range(count):
        if low[i] == 0.0 and high[i] == 0.0:
            continue
        if known:
            for e in range(left):
                along[e] = along_inputs[i, chosen[e]]
        elif axes:
            for e in range(left):
                along[e] = rows[i, chosen[e]]
        else:
            for e in range(left):
                along[e] = rows[i, 0] * packed[0, e]
            for t in range(1, d):
                value = rows[i, t]
                for e in range(left):
                    along[e] += value * packed[t, e]
        middle, half = 0.5 * (low[i] + high[i]), 0.5 * (high[i] - low[i])
        for e in range(left):
            centre[e] += middle * along[e]
            spread[e] += half * abs(along[e])
    best, place, turned, alive = -1.0, 0, False, 0
    for e in range(left):
        reach = abs(centre[e]) + spread[e]
        if reach > floor:
            chosen[alive] = chosen[e]
            centre[alive], spread[alive] = centre[e], spread[e]
            alive += 1
        elif reach > best:
            best, place, turned = reach, chosen[e], centre[e] < 0.0
    if alive and first < len(widths) - 1:
        ahead = np.empty((count, alive))
        for i in range(count):
            for e in range(alive):
                if known:
                    ahead[i, e] = along_inputs[i, chosen[e]]
                elif axes:
                    ahead[i, e] = rows[i, chosen[e]]
                else:
                    total = 0.0
                    for t in range(d):
                        total += rows[i, t] * directions[t, chosen[e]]
                    ahead[i, e] = total
        least, most = centre[:alive] - spread[:alive], centre[:alive] + spread[:alive]
        carry_forward(weights, widths, signs, first, c_low, c_high, ahead, least, most)
    else:
        least, most = centre[:alive] - spread[:alive], centre[:alive] + spread[:alive]
    left, alive = alive, 0
    for e in range(left):
        reach = max(most[e], -least[e])
        if reach > best:
            best, place, turned = reach, chosen[e], most[e] < -least[e]
        if reach > floor:
            chosen[alive] = chosen[e]
            alive += 1
    return best, alive, place, turned


@compiled
def gradient_bound(  # type: ignore[no-untyped-def]
    weights, widths, output, inputs, first, signs, directions, along_inputs, chosen, left, q, dual, floor
):
    """A bound on the length in l_q of every gradient of a node.

    Args:
        directions: (d, C); with `dual` the length is the largest |<g, c>| over them.
        along_inputs: (n_1, C): products of inputs and directions.
        chosen: (C,) int64: its first `left` entries are the directions that are still looked at; those that stay below
            the floor are dropped for all descendants.
    Returns:
        (bound without rounding slack, directions left, neuron of the layer whose split promises most, the sign of it
        that keeps the bound).
    """
    n, d = len(output), inputs.shape[1]
    depth = len(widths)
    rows, u_low, u_high = np.empty((n, d)), np.zeros((depth, n)), np.zeros((depth, n))
    pull_back(weights, widths, output, inputs, first, signs, rows, u_low, u_high)
    count = widths[first]
    here = signs[first]
    c_low, c_high = np.zeros((depth, n)), np.zeros((depth, n))
    for m in range(first, depth):
        for i in range(widths[m]):
            if signs[m, i] > 0:
                c_low[m, i], c_high[m, i] = u_low[m, i], u_high[m, i]
            elif signs[m, i] == 0:
                c_low[m, i], c_high[m, i] = min(u_low[m, i], 0.0), max(u_high[m, i], 0.0)
    low, high = c_low[first], c_high[first]
    axis = np.empty(d)
    if dual:
        bound, left, place, turned = _best_directions(
            weights, widths, signs, first, c_low, c_high, rows, directions,
            along_inputs if first == 0 else along_inputs[:0], chosen, left, q, floor,
        )  # fmt: skip
        for t in range(d):
            axis[t] = -directions[t, place] if turned else directions[t, place]
    else:
        largest, smallest = np.empty(d), np.empty(d)
        _component_ranges(rows, low, high, count, np.zeros(d), largest, smallest)
        carry_forward(weights, widths, signs, first, c_low, c_high, rows, smallest, largest)
        reach, near = np.maximum(largest, -smallest), np.maximum(np.maximum(smallest, -largest), 0.0)
        far = np.where(largest > -smallest, largest, smallest)
        bound = length_of(reach, q)
        if bound > floor:
            bound = min(bound, _chord_length(weights, widths, signs, first, c_low, c_high, rows, smallest, largest, q))
        if bound > floor:
            _component_ranges(rows, low, high, count, _mirror(0.5 * (largest + smallest)), largest, smallest)
            euclid = min(length_of(reach, 2.0), length_of(np.maximum(largest, -smallest), 2.0))
            # In units of the largest component: an error of an exponent weighs as much as the logarithm of the base.
            unit = unit_of(reach)
            if q <= 2.0:
                bound = min(bound, euclid * d ** (1.0 / q - 0.5))
                mixed = (reach.sum() / unit) ** (2.0 / q - 1.0) * (euclid / unit) ** (2.0 - 2.0 / q)
            else:
                mixed = (euclid / unit) ** (2.0 / q) * (reach.max() / unit) ** (1.0 - 2.0 / q)
            bound = min(bound, unit * mixed)
            if bound > floor:
                bound = min(bound, dominated_length(rows, low, high, count, q, near, reach))
        scale = max(length_of(far, np.inf), 1e-300)
        axis = np.sign(far) * (np.abs(far) / scale) ** (q - 1.0)
        axis /= max(length_of(axis, 2.0), 1e-300)
    neuron, best_score, sign = -1, -1.0, 1
    for i in range(count):
        if here[i] == 0:
            s = 0.0
            for t in range(d):
                s += rows[i, t] * axis[t]
            x, y = u_low[first, i] * s, u_high[first, i] * s
            score = max(abs(x), abs(y))
            if score > best_score:
                neuron, best_score = i, score
                sign = 1 if max(x, y) > 0.0 else -1
    return bound * (1.0 + 1e-14), left, neuron, sign
