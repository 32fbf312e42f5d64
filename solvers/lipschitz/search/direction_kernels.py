"""Compiled: directions of a node whose last layer alone is undecided, by one linear program for each.

There <g, c> = sum_j d_j q_j with known q_j, so a pattern that comes above the floor has the best sign of every neuron
with |q_j| at least what all of them together are above it. The polytope of the node and these signs is empty, and the
direction is done with; or it is not, and holds a point whose gradient is long. Deciding every neuron for itself takes
twenty programs where this takes one.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.lipschitz.bounds.interiors import deep_point
from solvers.lipschitz.bounds.ranges import pull_back

__all__ = ["directions_inside"]


@compiled
def directions_inside(k, first, signs, below, errors, a, b, slack, chosen, left, floor, point):  # type: ignore[no-untyped-def]
    """Directions along which a gradient above the floor may lie inside the node, and signs that all of them need.

    Args:
        k: KernelArrays, with `dual`; first: the last layer, the only one that is undecided.
        signs: (L, n), changed: signs that all such gradients have are entered.
        below, errors: as from `ranges.propagate`; a, b, slack: from `gather_rows`.
        chosen: its first `left` entries are looked at; compacted in place.
        floor: less the rounding of gradients.
        point: (k,), filled with the deepest point that was met.
    Returns:
        (directions left, programs, signs entered, the distance of the point from the nearest kink; -inf without one).
    """
    n, d, size, count = len(k.output), k.inputs.shape[1], len(k.low), k.widths[first]
    rows, u_low, u_high = np.empty((n, d)), np.zeros(signs.shape), np.zeros(signs.shape)
    pull_back(k.weights, k.widths, k.output, k.inputs, first, signs, rows, u_low, u_high)
    known = len(b)
    most = known + count
    all_a, all_b, all_slack = np.empty((most, size)), np.empty(most), np.empty(most)
    for r in range(known):
        for t in range(size):
            all_a[r, t] = a[r, t]
        all_b[r], all_slack[r] = b[r], slack[r]
    parts = np.empty(count)
    needed = np.full(count, 2, dtype=np.int8)
    alive, programs, depth_of_point = 0, 0, -np.inf
    for e in range(left):
        keep = False
        for i in range(count):
            total = 0.0
            if signs[first, i] >= 0:
                for t in range(d):
                    total += rows[i, t] * k.directions[t, chosen[e]]
            parts[i] = k.output[i] * total
        for turn in (1.0, -1.0):
            reach = 0.0
            for i in range(count):
                part = turn * parts[i]
                reach += part if signs[first, i] > 0 else max(part, 0.0)
            if reach <= floor:
                continue
            used = known
            for i in range(count):
                part = turn * parts[i]
                sign = 0
                if signs[first, i] == 0 and abs(part) >= reach - floor:
                    sign = 1 if part > 0.0 else -1
                    for t in range(size):
                        all_a[used, t] = sign * below[first, i, t]
                    all_b[used], all_slack[used] = sign * below[first, i, size], errors[first, i]
                    used += 1
            programs += 1
            margin, proof, deepest, _ = deep_point(all_a[:used], all_b[:used], all_slack[:used], k.low, k.high, k.stop)
            if proof < 0.0:
                continue
            keep = True
            if margin > depth_of_point:
                depth_of_point = margin
                for t in range(size):
                    point[t] = deepest[t]
            for i in range(count):
                part = turn * parts[i]
                sign = 0
                if signs[first, i] == 0 and abs(part) >= reach - floor:
                    sign = 1 if part > 0.0 else -1
                if needed[i] == 2:
                    needed[i] = sign
                elif needed[i] != sign:
                    needed[i] = 0
        if keep:
            chosen[alive] = chosen[e]
            alive += 1
    entered = 0
    for i in range(count):
        if alive > 0 and signs[first, i] == 0 and abs(needed[i]) == 1:
            signs[first, i] = needed[i]
            entered += 1
    return alive, programs, entered, depth_of_point
