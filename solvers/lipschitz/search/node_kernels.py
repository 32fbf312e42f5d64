"""Compiled parts of node expansion: the node's polytope, its interior, what linear programs decide in it."""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.lipschitz.bounds.gradients import gradient_of
from solvers.lipschitz.bounds.relaxation.coupling import ANY
from solvers.lipschitz.bounds.small_programs import proved_maximum, solve_program

__all__ = [
    "decide_ahead",
    "decide_by_programs",
    "gather_rows",
    "gradient_at",
    "is_inside",
]


@compiled
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


@compiled
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


# Many arguments: a node in a compiled search is no object but slices of arrays.
@compiled
def decide_by_programs(  # type: ignore[no-untyped-def]
    a, b, slack, width, first, low, high, signs, below, errors, z_low, z_high, point, wanted, tighten, stop
):
    """Decide undecided neurons of the first undecided layer that keep one sign on the polytope {A x + b >= 0}.

    Only the sign that the neuron does not have at `point` is looked for; corners met on the way spare programs.

    Args:
        a, b, slack: from `gather_rows`; width: neurons of the layer `first`; tighten: whether to enter ranges.
        wanted: (n,): only that sign is looked for; both where it is `relaxation.coupling.ANY`.
        stop: as for `solve_program`.
    Returns:
        Programs solved, neurons decided (count,), their multipliers (count, m).
    """
    k = len(low)
    undecided = np.array([i for i in range(width) if signs[first, i] == 0])
    crossed = np.zeros(len(undecided), dtype=np.bool_)
    x, y, c = np.empty(k), np.empty(len(b)), np.empty(k)
    decided, multipliers = np.empty(len(undecided), dtype=np.int64), np.empty((len(undecided), len(b)))
    programs, count = 0, 0
    for r in range(len(undecided)):
        i = undecided[r]
        here = below[first, i, k]
        for t in range(k):
            here += below[first, i, t] * point[t]
        if stop[0] != 0:
            break
        if crossed[r]:
            continue
        flip = -1.0 if here > 0.0 else 1.0
        if wanted[i] != ANY and wanted[i] != flip:
            continue
        for t in range(k):
            c[t] = flip * below[first, i, t]
        programs += 1
        status = solve_program(c, a, b, low, high, 50 + 10 * (len(b) + k), x, y, stop)
        if status == 0:
            continue
        most = proved_maximum(c, flip * below[first, i, k], a, b, slack, low, high, y) + errors[first, i]
        if tighten and flip > 0.0:
            z_high[first, i] = min(z_high[first, i], most)
        elif tighten:
            z_low[first, i] = max(z_low[first, i], -most)
        if most < 0.0:
            signs[first, i] = -1 if flip > 0.0 else 1
            decided[count] = i
            multipliers[count] = y
            count += 1
        elif status == 1:
            for s in range(r + 1, len(undecided)):
                j = undecided[s]
                if not crossed[s]:
                    there, value = below[first, j, k], below[first, j, k]
                    for t in range(k):
                        there += below[first, j, t] * x[t]
                        value += below[first, j, t] * point[t]
                    crossed[s] = (there > 0.0) != (value > 0.0)
    return programs, decided[:count], multipliers[:count]


@compiled
def decide_ahead(a, b, slack, width, layer, low, high, signs, below, above, errors, z_low, z_high, point, stop):  # type: ignore[no-untyped-def]
    """Decide neurons of a layer that is not affine yet: by the lines below and above them, over {A x + b >= 0}.

    Over the whole box such lines are seldom of one sign; over the part of it that a node is, often.

    Args:
        as for `decide_by_programs`; `layer` is the one after the first undecided one.
    Returns:
        Programs solved, neurons decided.
    """
    k = len(low)
    x, y, c = np.empty(k), np.empty(len(b)), np.empty(k)
    programs, count = 0, 0
    for j in range(width):
        if signs[layer, j] != 0 or stop[0] != 0:
            continue
        under, over = below[layer, j, k], above[layer, j, k]
        for t in range(k):
            under += below[layer, j, t] * point[t]
            over += above[layer, j, t] * point[t]
        # Negative all over the node, or positive: no line can show it that has the other sign at the point.
        if over + errors[layer, j] < 0.0:
            flip = 1.0
        elif under - errors[layer, j] > 0.0:
            flip = -1.0
        else:
            continue
        line = above[layer, j] if flip > 0.0 else below[layer, j]
        for t in range(k):
            c[t] = flip * line[t]
        programs += 1
        if solve_program(c, a, b, low, high, 50 + 10 * (len(b) + k), x, y, stop) == 0:
            continue
        most = proved_maximum(c, flip * line[k], a, b, slack, low, high, y) + errors[layer, j]
        if flip > 0.0:
            z_high[layer, j] = min(z_high[layer, j], most)
        else:
            z_low[layer, j] = max(z_low[layer, j], -most)
        if most < 0.0:
            signs[layer, j] = -1 if flip > 0.0 else 1
            count += 1
    return programs, count


@compiled
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
