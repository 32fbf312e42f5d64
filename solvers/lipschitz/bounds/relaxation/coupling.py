"""Compiled bounds that couple the signs of a layer with the inputs that give them.

Along a direction c the gradient of a node is at most sum_i (a_i)_+, a_i = v_i <r_i, c>, when every undecided neuron of
the last layer takes the sign that suits it. No input may give all of these signs. With z_i(x) the pre-activation, in
[l_i, h_i], and s_i = 1 where a_i > 0 and -1 where a_i < 0, the neuron adds

    at most (a_i)_+ + y_i s_i z_i(x)  for all  0 <= y_i <= a_i / |l_i|  (a_i > 0),  |a_i| / h_i  (a_i < 0),

whatever its sign at x: the linear relaxation of big-M programs, in its dual form. A decided neuron gives
0 <= y_i s_i z_i(x) for all y_i >= 0. The maximum over the box of the sum of it all is a bound of the node.

Source: [JD20] for gradients of ReLU networks as mixed-integer programs, whose relaxation this is.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.lipschitz.bounds.ranges import pull_back
from solvers.lipschitz.bounds.relaxation.penalties import least_penalty
from solvers.lipschitz.bounds.small_programs import proved_maximum

__all__ = ["ANY", "coupled_bound"]

# Directions that a node may have; those that still reach beyond the floor when coupled, after which a node is split
# without a look at the others; steps of a program, for each of its rows.
MOST_COUPLED, MOST_OPEN, STEPS = 512, 3, 4
# Sizes of rows that can be divided by.
SMALL, LARGE = 1e-200, 1e200
# Of `wanted`: either sign.
ANY = 2


@compiled
def coupled_bound(k, signs, a, b, slack, below, errors, z_low, z_high, point, chosen, left, floor, wanted):  # type: ignore[no-untyped-def]
    """A bound in the dual view on all gradients of a node whose last layer is the first undecided one.

    Args:
        k: KernelArrays.
        a, b, slack: decided rows, from `gather_rows`; below, errors: of the last layer, from `propagate`.
        z_low, z_high: (L, n).
        point: (k,), inside the node.
        chosen: its first `left` directions are looked at; those that stay below the floor leave the list.
        wanted: (n,) int8, filled: the sign that an undecided neuron should have for the best direction where the point
            of the relaxation gives it the other one, 0 where it has it; as it was where nothing was done.
    Returns:
        (bound without rounding of the gradients, directions left, neuron whose relaxation is loosest there (-1
        without), the sign of it that keeps the bound); an infinite bound where nothing was done.
    """
    if left > MOST_COUPLED or left == 0:
        return np.inf, left, -1, 1
    depth, n = k.biases.shape
    last, size, d = depth - 1, len(k.low), k.inputs.shape[1]
    derivatives, u_low, u_high = np.empty((n, d)), np.zeros((depth, n)), np.zeros((depth, n))
    pull_back(k.weights, k.widths, k.output, k.inputs, last, signs, derivatives, u_low, u_high)
    middle, half = np.empty(size), np.empty(size)
    for t in range(size):
        middle[t] = 0.5 * (k.low[t] + k.high[t])
        half[t] = 0.5 * (k.high[t] - k.low[t])
    # Rows of the program in units of their own range: decided ones, then undecided neurons.
    most = len(b) + k.widths[last]
    source, constant, error = np.empty((most, size)), np.empty(most), np.empty(most)
    unit, neuron_of = np.empty(most), np.empty(most, dtype=np.int64)
    rows, beta = np.empty((size, most)), np.empty(most)
    turn, cap, y, xi = np.zeros(most), np.empty(most), np.zeros(most), np.empty(size)
    count, fixed = 0, 0
    for i in range(most):
        here = i - len(b)
        if here >= 0 and (signs[last, here] != 0 or not z_low[last, here] < 0.0 < z_high[last, here]):
            continue
        total, length = b[i] if here < 0 else below[here, size], 0.0
        constant[count] = total
        error[count] = slack[i] if here < 0 else errors[here]
        for t in range(size):
            w = a[i, t] if here < 0 else below[here, t]
            source[count, t] = w
            total += w * middle[t]
            length += abs(w) * half[t]
        if not SMALL < length < LARGE:
            continue
        for t in range(size):
            rows[t, count] = source[count, t] * half[t] / length
        beta[count], unit[count], neuron_of[count] = total / length, length, here
        if here < 0:
            fixed += 1
            turn[count], cap[count] = 1.0, np.inf
        count += 1
    for t in range(size):
        xi[t] = (point[t] - middle[t]) / half[t]
    proof_rows, proof_constants, proof_errors = np.empty((count, size)), np.empty(count), np.empty(count)
    proof_y, nothing = np.empty(count), np.zeros(size)
    # What both signs of every direction reach: without coupling, then with it for the farthest ones.
    reach, known, along = np.zeros((2, left)), np.full((2, left), -np.inf), np.empty(n)
    for e in range(left):
        for i in range(k.widths[last]):
            if signs[last, i] >= 0:
                value = k.output[i] * _product(k, derivatives, i, chosen[e])
                if signs[last, i] > 0 or value > 0.0:
                    reach[0, e] += value
                if signs[last, i] > 0 or value < 0.0:
                    reach[1, e] -= value
    best, neuron, prefer, open_ = floor, -1, 1, 0
    while open_ < MOST_OPEN:
        side, e = 0, 0
        for other in range(left):
            for turned in range(2):
                if reach[turned, other] > reach[side, e]:
                    side, e = turned, other
        start = reach[side, e]
        if start <= best:
            break
        for i in range(k.widths[last]):
            along[i] = k.output[i] * _product(k, derivatives, i, chosen[e]) if signs[last, i] >= 0 else 0.0
            if side == 1:
                along[i] = -along[i]
        for j in range(fixed, count):
            i = neuron_of[j]
            turn[j], cap[j] = 0.0, 0.0
            most_here = along[i] / -z_low[last, i] if along[i] > 0.0 else -along[i] / z_high[last, i]
            most_here *= unit[j]
            if 0.0 < most_here < np.inf:
                turn[j], cap[j] = 1.0 if along[i] > 0.0 else -1.0, most_here
        least_penalty(rows, beta, turn, cap, count, start, floor, STEPS * (count + size), y, xi)
        used = 0
        for j in range(count):
            if turn[j] != 0.0 and y[j] > 0.0:
                for t in range(size):
                    proof_rows[used, t] = turn[j] * source[j, t]
                proof_constants[used], proof_errors[used] = turn[j] * constant[j], error[j]
                proof_y[used] = y[j] * (1.0 - 1e-12) / unit[j]
                used += 1
        bound = proved_maximum(
            nothing, start, proof_rows[:used], proof_constants[:used], proof_errors[:used], k.low, k.high,
            proof_y[:used],
        )  # fmt: skip
        bound = min(bound, start)
        known[side, e] = bound
        reach[side, e] = -np.inf
        if bound <= best:
            continue
        best, neuron, loosest = bound, -1, 0.0
        for i in range(n):
            wanted[i] = 0
        for j in range(fixed, count):
            z = beta[j]
            for t in range(size):
                z += rows[t, j] * xi[t]
            if turn[j] * z < 0.0:
                i = neuron_of[j]
                wanted[i] = 1 if turn[j] > 0.0 else -1
                gain = abs(along[i]) + turn[j] * z * cap[j]
                if gain > loosest:
                    loosest, neuron, prefer = gain, i, wanted[i]
        open_ += 1
    alive, bound = 0, -np.inf
    for e in range(left):
        here = max(max(known[0, e], reach[0, e]), max(known[1, e], reach[1, e]))
        bound = max(bound, here)
        if here > floor:
            chosen[alive] = chosen[e]
            alive += 1
    return bound, alive, neuron, prefer


@compiled
def _product(k, derivatives, i, direction):  # type: ignore[no-untyped-def]
    """The derivative of a pre-activation of the last layer along a direction."""
    if len(k.widths) == 1:
        return k.along_inputs[i, direction]
    total = 0.0
    for t in range(derivatives.shape[1]):
        total += derivatives[i, t] * k.directions[t, direction]
    return total
