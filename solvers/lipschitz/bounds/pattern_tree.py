"""Compiled: all sign patterns of one layer at once, against the directions that a node still looks at.

At the first undecided layer grad f = sum_j c_j x_j with x_j = sum_i w_ji d_i r_i the rows of the layer after it and c_j
in a range (on the last layer: 0 or the output's weight). Ranges of <x_j, c> that hold for every pattern d at once are
wide; for one pattern they are points. A tree over the signs of the undecided neurons, without ranges of
pre-activations and without linear programs, takes a microsecond for what costs a node of the search a hundred: where
few neurons are undecided it ends, and every direction of the node is shown to be short; or it comes to a pattern that
is not, and the node stays. Directions are looked at in blocks, for arrays that fit a cache.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.lipschitz.bounds.ranges import pull_back

__all__ = ["patterns_left"]

# Directions of a block.
BLOCK = 32


@compiled
def patterns_left(weights, widths, output, inputs, first, signs, directions, chosen, left, floor, work):  # type: ignore[no-untyped-def]
    """Directions c among the chosen for which a pattern of the layer `first` may give |<g, c>| above the floor.

    Rounding is that of sums along paths: `gradients.node_slack`.

    Args:
        first: the first undecided layer, not the last one.
        directions: (d, C); chosen: its first `left` entries count; compacted in place.
        work: numbers that may be computed, about a nanosecond each.
    Returns:
        (directions left; those of which it is not known are among them, numbers that were computed).
    """
    n, d, depth = len(output), inputs.shape[1], len(widths)
    rows, u_low, u_high = np.empty((n, d)), np.zeros((depth, n)), np.zeros((depth, n))
    pull_back(weights, widths, output, inputs, first, signs, rows, u_low, u_high)
    # Neurons of the next layer that may be active, and the ranges of their coefficients.
    following = np.empty(widths[first + 1], dtype=np.int64)
    least, most = np.empty(widths[first + 1]), np.empty(widths[first + 1])
    after = 0
    for j in range(widths[first + 1]):
        if signs[first + 1, j] >= 0:
            low, high = u_low[first + 1, j], u_high[first + 1, j]
            if signs[first + 1, j] == 0:
                low, high = min(low, 0.0), max(high, 0.0)
            following[after], least[after], most[after] = j, low, high
            after += 1
    # Undecided neurons, those that move most first.
    order, scores = np.empty(widths[first], dtype=np.int64), np.zeros(widths[first])
    free = 0
    for i in range(widths[first]):
        if signs[first, i] == 0:
            total, size = 0.0, 0.0
            for j in range(after):
                total += max(-least[j], most[j]) * abs(weights[first + 1, following[j], i])
            for t in range(d):
                size += abs(rows[i, t])
            scores[free], order[free] = total * size, i
            free += 1
    for r in range(free):
        best = r
        for s in range(r + 1, free):
            if scores[s] > scores[best]:
                best = s
        scores[r], scores[best] = scores[best], scores[r]
        order[r], order[best] = order[best], order[r]
    spent, size = 0, min(left, BLOCK)
    if 2 * size * widths[first] * after > work:
        return left, spent
    lows, highs = np.empty((free + 1, after, 2 * size)), np.empty((free + 1, after, 2 * size))
    alive, begin = 0, 0
    while begin < left:
        end = min(begin + size, left)
        spent += 2 * (end - begin) * (widths[first] * after + free * d)
        short = False
        if spent <= work:
            short, spent = _is_short(
                weights, following[:after], least, most, rows, first, signs, order, free, directions, chosen, begin,
                end, floor, work, lows, highs, spent,
            )  # fmt: skip
        # One pattern above the floor keeps the node: the rest is left to those below it.
        if not short:
            for e in range(begin, left):
                chosen[alive] = chosen[e]
                alive += 1
            break
        begin = end
    return alive, spent


# Long on purpose: both sides of a split are bounded in one pass over the same arrays.
@compiled
def _is_short(  # type: ignore[no-untyped-def]
    weights, following, least, most, rows, first, signs, order, free, directions, chosen, begin, end, floor, work, lows,
    highs, spent,
):  # fmt: skip
    """Whether it is shown that no pattern reaches above the floor along directions of a block; numbers computed so far.

    Args:
        following: neurons of the next layer that may be active; least, most: the ranges of their coefficients.
        rows: (n, d), of the layer's pre-activations; order: its undecided neurons, `free` of them.
        lows, highs: room, (free + 1, neurons of the next layer, directions with signs): ranges of <x_j, c>.
    """
    after, d, left = len(following), rows.shape[1], end - begin
    # Every direction with both signs; at each level those that a pattern below may still carry above the floor.
    total = 2 * left
    along = np.empty((free, total))
    entries = np.empty((free + 1, total), dtype=np.int64)
    counts, sides = np.zeros(free + 1, dtype=np.int64), np.zeros(free + 1, dtype=np.int64)
    for j in range(after):
        for e in range(total):
            lows[0, j, e] = 0.0
            highs[0, j, e] = 0.0
    here = np.empty(total)
    place = 0
    for i in range(len(order)):
        if signs[first, i] < 0:
            continue
        for e in range(left):
            here[e] = 0.0
        for t in range(d):
            value = rows[i, t]
            for e in range(left):
                here[e] += value * directions[t, chosen[begin + e]]
        for e in range(left):
            here[left + e] = -here[e]
        if signs[first, i] == 0:
            place = 0
            while order[place] != i:
                place += 1
            for e in range(total):
                along[place, e] = here[e]
        for j in range(after):
            w = weights[first + 1, following[j], i]
            if signs[first, i] > 0:
                for e in range(total):
                    lows[0, j, e] += w * here[e]
                    highs[0, j, e] += w * here[e]
            else:
                for e in range(total):
                    g = w * here[e]
                    lows[0, j, e] += min(g, 0.0)
                    highs[0, j, e] += max(g, 0.0)
    for e in range(total):
        entries[0, e] = e
    counts[0] = total
    on, off = np.empty(total), np.empty(total)
    # sides: 0 before a level is looked at; then the side that is still to be entered: 1 off, 2 on, 3 none.
    level = 0
    while level >= 0:
        if sides[level] == 3:
            sides[level] = 0
            level -= 1
            continue
        if level == free:
            return False, spent
        count, r = counts[level], level
        for e in range(count):
            here[e] = along[r, entries[level, e]]
        turn = sides[level]
        if turn == 0:
            for e in range(count):
                on[e] = 0.0
                off[e] = 0.0
            for j in range(after):
                w, a, c = weights[first + 1, following[j], order[r]], least[j], most[j]
                low, high = lows[level, j], highs[level, j]
                if a <= 0.0 <= c:
                    for e in range(count):
                        g = w * here[e]
                        down, up = min(g, 0.0), max(g, 0.0)
                        on[e] += max(c * (high[e] + down), a * (low[e] + up))
                        off[e] += max(c * (high[e] - up), a * (low[e] - down))
                else:
                    for e in range(count):
                        g = w * here[e]
                        down, up = min(g, 0.0), max(g, 0.0)
                        x, y = low[e] + up, high[e] + down
                        on[e] += max(max(a * x, a * y), max(c * x, c * y))
                        x, y = low[e] - down, high[e] - up
                        off[e] += max(max(a * x, a * y), max(c * x, c * y))
            spent += 2 * count * after
            if spent > work:
                return False, spent
            largest_on, largest_off = -np.inf, -np.inf
            for e in range(count):
                largest_on, largest_off = max(largest_on, on[e]), max(largest_off, off[e])
            if largest_on <= floor and largest_off <= floor:
                level -= 1
                continue
            enter_on = largest_on > largest_off
            if min(largest_on, largest_off) <= floor:
                sides[level] = 3
            else:
                sides[level] = 1 if enter_on else 2
        else:
            # The other side: its bounds are computed once more rather than kept.
            enter_on = turn == 2
            sides[level] = 3
            for e in range(count):
                on[e] = 0.0
            for j in range(after):
                w, a, c = weights[first + 1, following[j], order[r]], least[j], most[j]
                low, high = lows[level, j], highs[level, j]
                for e in range(count):
                    g = w * here[e]
                    down, up = min(g, 0.0), max(g, 0.0)
                    if enter_on:
                        x, y = low[e] + up, high[e] + down
                    else:
                        x, y = low[e] - down, high[e] - up
                    on[e] += max(max(a * x, a * y), max(c * x, c * y))
            spent += count * after
            if not enter_on:
                for e in range(count):
                    off[e] = on[e]
        bounds = on if enter_on else off
        alive = 0
        for e in range(count):
            if bounds[e] > floor:
                entries[level + 1, alive] = e
                alive += 1
        for j in range(after):
            w = weights[first + 1, following[j], order[r]]
            low, high = lows[level, j], highs[level, j]
            to_low, to_high = lows[level + 1, j], highs[level + 1, j]
            for f in range(alive):
                e = entries[level + 1, f]
                g = w * here[e]
                down, up = min(g, 0.0), max(g, 0.0)
                if enter_on:
                    to_low[f], to_high[f] = low[e] + up, high[e] + down
                else:
                    to_low[f], to_high[f] = low[e] - down, high[e] - up
        spent += alive * after
        for f in range(alive):
            entries[level + 1, f] = entries[level, entries[level + 1, f]]
        counts[level + 1] = alive
        level += 1
        sides[level] = 0
    return True, spent
