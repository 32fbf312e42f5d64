"""Compiled parts of node expansion: the node's polytope, its interior, its gradients and their bounds."""

from __future__ import annotations

import numba
import numpy as np

from solvers.lipschitz.propagation_kernels import directional_bounds, pull_back
from solvers.lipschitz.small_programs import best_margin, proved_maximum, solve_program

__all__ = [
    "decide_by_programs",
    "deep_point",
    "gather_rows",
    "gradient_at",
    "gradient_bound",
    "gradient_of",
    "is_inside",
]


@numba.njit(cache=True, nogil=True)
def gather_rows(widths, first, low, high, signs, below, errors):  # type: ignore[no-untyped-def]
    """The node as {A x + b >= 0}: rows of decided neurons of affine layers that cut the box.

    Returns:
        A (m, k), b (m,), rounding errors (m,), and (layer, neuron) of every row, shape (m, 2).
    """
    k = len(low)
    layers = min(first + 1, len(widths))
    total = 0
    for m in range(layers):
        total += widths[m]
    a, b, slack = np.empty((total, k)), np.empty(total), np.empty(total)
    places = np.empty((total, 2), dtype=np.int64)
    count = 0
    for m in range(layers):
        for i in range(widths[m]):
            sign = float(signs[m, i])
            if sign == 0.0:
                continue
            least = sign * below[m, i, k] - errors[m, i]
            for t in range(k):
                value = sign * below[m, i, t]
                a[count, t] = value
                least += value * low[t] if value >= 0.0 else value * high[t]
            if least > 0.0:
                continue
            spread = 0.0
            for t in range(k):
                spread += abs(a[count, t]) * (high[t] - low[t])
            if spread <= 4.0 * errors[m, i]:
                continue  # identically constant: cuts nothing
            b[count] = sign * below[m, i, k]
            slack[count] = errors[m, i]
            places[count, 0] = m
            places[count, 1] = i
            count += 1
    return a[:count].copy(), b[:count].copy(), slack[:count].copy(), places[:count].copy()


@numba.njit(cache=True, nogil=True)
def is_inside(a, b, low, high, point, margin):  # type: ignore[no-untyped-def]
    """Whether the point keeps a distance from every row and from the box's faces."""
    for j in range(len(low)):
        if not low[j] < point[j] < high[j]:
            return False
    for i in range(len(b)):
        total, length = b[i], 0.0
        for j in range(len(low)):
            total += a[i, j] * point[j]
            length += a[i, j] * a[i, j]
        if total <= margin * np.sqrt(length):
            return False
    return True


@numba.njit(cache=True, nogil=True)
def deep_point(a, b, errors, low, high):  # type: ignore[no-untyped-def]
    """A deep point of {A x + b > 0} strictly inside the box, its margin, a proved bound on margins, multipliers."""
    k = len(low)
    x, y = 0.5 * (low + high), np.zeros(len(b))
    cap = 0.1 * np.min(high - low)
    if len(b) == 0:
        return cap, np.inf, x, y
    middle = x.copy()
    margin, bound = best_margin(a, b, errors, low, high, cap, x, y)
    if margin > 0.0:
        # Away from the faces, at the price of at most half the margin.
        share = 0.25
        for i in range(len(b)):
            at_middle, at_x, length = b[i], b[i], 0.0
            for j in range(k):
                at_middle += a[i, j] * middle[j]
                at_x += a[i, j] * x[j]
                length += a[i, j] * a[i, j]
            if at_middle < at_x:
                share = min(share, max(0.0, at_x - 0.5 * margin * np.sqrt(length)) / (at_x - at_middle))
        x += share * (middle - x)
        margin *= 0.5
    return margin, bound, x, y


@numba.njit(cache=True, nogil=True)
def decide_by_programs(widths, first, low, high, signs, below, errors, z_low, z_high, point):  # type: ignore[no-untyped-def]
    """Decide undecided neurons of the first undecided layer that keep one sign on the whole polytope.

    Only the sign that the neuron does not have at `point` is looked for; corners met on the way spare programs.

    Returns:
        Programs solved, neurons decided.
    """
    k = len(low)
    a, b, slack, _ = gather_rows(widths, first, low, high, signs, below, errors)
    undecided = np.array([i for i in range(widths[first]) if signs[first, i] == 0])
    crossed = np.zeros(len(undecided), dtype=np.bool_)
    x, y, c = np.empty(k), np.empty(len(b)), np.empty(k)
    programs, decided = 0, 0
    for r in range(len(undecided)):
        i = undecided[r]
        here = below[first, i, k]
        for t in range(k):
            here += below[first, i, t] * point[t]
        if crossed[r]:
            continue
        flip = -1.0 if here > 0.0 else 1.0
        for t in range(k):
            c[t] = flip * below[first, i, t]
        programs += 1
        status = solve_program(c, a, b, low, high, 50 + 10 * (len(b) + k), x, y)
        if status == 0:
            continue
        most = proved_maximum(c, flip * below[first, i, k], a, b, slack, low, high, y) + errors[first, i]
        if flip > 0.0:
            z_high[first, i] = min(z_high[first, i], most)
        else:
            z_low[first, i] = max(z_low[first, i], -most)
        if most < 0.0:
            signs[first, i] = -1 if flip > 0.0 else 1
            decided += 1
        elif status == 1:
            for s in range(r + 1, len(undecided)):
                j = undecided[s]
                if not crossed[s]:
                    there, value = below[first, j, k], below[first, j, k]
                    for t in range(k):
                        there += below[first, j, t] * x[t]
                        value += below[first, j, t] * point[t]
                    crossed[s] = (there > 0.0) != (value > 0.0)
    return programs, decided


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def gradient_at(weights, biases, widths, output, inputs, point):  # type: ignore[no-untyped-def]
    """The gradient (d,) at a point (k,) of the piece, kinks read as inactive."""
    depth, n = biases.shape
    signs = np.zeros((depth, n), dtype=np.int8)
    values = np.zeros(max(n, len(point)))
    values[: len(point)] = point
    for m in range(depth):
        following = np.zeros(len(values))
        inputs_here = len(point) if m == 0 else widths[m - 1]
        for i in range(widths[m]):
            total = biases[m, i]
            for j in range(inputs_here):
                total += weights[m, i, j] * values[j]
            if total > 0.0:
                signs[m, i] = 1
                following[i] = total
        values = following
    return gradient_of(weights, widths, output, inputs, signs)


@numba.njit(cache=True, nogil=True)
def _length(vector, q):  # type: ignore[no-untyped-def]
    largest = np.max(np.abs(vector))
    if np.isinf(q) or largest == 0.0:
        return largest
    total = 0.0
    for value in vector:
        total += (abs(value) / largest) ** q
    return largest * total ** (1.0 / q)


@numba.njit(cache=True, nogil=True)
def _reflection(axis):  # type: ignore[no-untyped-def]
    """An orthogonal matrix (Householder) whose first row points along `axis`."""
    d = len(axis)
    matrix = np.eye(d)
    size = np.sqrt((axis * axis).sum())
    if size == 0.0:
        return matrix
    v = axis / size
    v[0] += 1.0 if v[0] >= 0.0 else -1.0
    square = (v * v).sum()
    for i in range(d):
        for j in range(d):
            matrix[i, j] -= 2.0 * v[i] * v[j] / square
    return matrix


@numba.njit(cache=True, nogil=True)
def gradient_bound(weights, widths, output, inputs, first, signs, z_low, z_high, directions, chosen, q, dual, floor):  # type: ignore[no-untyped-def]
    """A bound on the length in l_q of every gradient of a node.

    With `dual`, the length is the largest |<g, c>| over the directions: each is bounded by itself, and those that stay
    below the floor are dropped for all descendants. Otherwise it is bounded through ranges of the components along the
    axes and, for l_2, along axes turned so that the first follows the middle of the ranges; l_q lies between l_1, l_2
    and l_inf (Hoelder).

    Returns:
        (bound without rounding slack, directions alive, neuron of the layer whose split promises most).
    """
    n, d = len(output), inputs.shape[1]
    rows, u_low, u_high = np.empty((n, d)), np.empty(n), np.empty(n)
    pull_back(weights, widths, output, inputs, first, signs, rows, u_low, u_high)
    count = widths[first]
    here = signs[first]
    largest, smallest = np.empty(len(chosen)), np.empty(len(chosen))
    directional_bounds(rows, u_low, u_high, here, count, directions, chosen, largest, smallest)
    reach = np.maximum(largest, -smallest)
    alive = chosen
    if dual:
        best = int(np.argmax(reach))
        bound = reach[best]
        alive = chosen[reach > floor]
        axis = directions[chosen[best]].copy()
        if -smallest[best] > largest[best]:
            axis = -axis
    else:
        far = np.where(largest > -smallest, largest, smallest)
        bound = _length(reach, q)
        axes = _reflection(0.5 * (largest + smallest))
        everything = np.arange(d)
        directional_bounds(rows, u_low, u_high, here, count, axes, everything, largest, smallest)
        euclid = min(_length(reach, 2.0), _length(np.maximum(largest, -smallest), 2.0))
        if q <= 2.0:
            bound = min(bound, euclid * d ** (1.0 / q - 0.5))
            bound = min(bound, reach.sum() ** (2.0 / q - 1.0) * euclid ** (2.0 - 2.0 / q))
        else:
            bound = min(bound, euclid ** (2.0 / q) * reach.max() ** (1.0 - 2.0 / q))
        scale = max(_length(far, np.inf), 1e-300)
        axis = np.sign(far) * (np.abs(far) / scale) ** (q - 1.0)
        size = max(_length(axis, 2.0), 1e-300)
        axis = axis / size
    neuron, best_score = -1, -1.0
    for i in range(count):
        if here[i] == 0:
            s = 0.0
            for t in range(d):
                s += rows[i, t] * axis[t]
            score = max(abs(u_low[i] * s), abs(u_high[i] * s))
            if score > best_score:
                neuron, best_score = i, score
    return bound * (1.0 + 1e-14), alive, neuron
