"""Compiled kernels: ranges of pre-activations and of Jacobians under a partial activation pattern, rounded outward.

A partial pattern holds 1 (active), -1 (inactive) or 0 (undecided) for every neuron. Two relaxations run side by side,
and of their ranges the intersection is kept: intervals, and linear functions of the input above and below every neuron
(forward mode; an undecided ReLU on [l, u] lies between 0 or z and u (z - l) / (u - l)).

Where whole layers are decided the linear functions are the affine map itself. An interval that ends exactly at 0 stays
there, since sums of zeros carry no rounding error: it is how corners where a whole layer is dead are told from kinks.
A product of two numbers that are not 0 is no such zero, though it underflow to one.

Sources: CROWN [ZWCHD18] for the linear relaxation; Fast-Lip [Weng18] and RecurJac [ZZH19] for intervals pulled back
through the Jacobian; [Hig02, section 3.1] for the error bounds.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW

__all__ = ["EMPTY", "STOPPED", "carry_forward", "flat_rows", "propagate", "pull_back"]

# No point of the box carries the partial pattern.
EMPTY = -1
# Time was up before the end.
STOPPED = -2


# Long on purpose: the passes over the layers share all arrays, and every compiled part of it would take them all.
@compiled
def propagate(  # type: ignore[no-untyped-def]
    weights, biases, widths, group, turn, low, high, signs, z_low, z_high, below, above, errors, stop
):
    """Decide neurons layer by layer.

    Args:
        weights: (L, n, max(n, k)), zero where there is no neuron; biases (L, n); widths (L,).
        group, turn: (L, n): of neurons whose rows are exact multiples, the first; sign of the factor.
        low, high: (k,), the box.
        signs: (L, n) int8, changed: neurons that the bounds decide are entered.
        z_low, z_high: (L, n), changed: ranges known before, tightened.
        below, above: (L, n, k + 1), filled: linear functions of the input; the last column is the constant.
        errors: (L, n), filled: rounding error of these functions anywhere in the box.
        stop: (1,): not 0 once time is up; another thread may set it.
    Returns:
        EMPTY, STOPPED, or the first layer with an undecided neuron (L if there is none).
    """
    depth, k = len(widths), len(low)
    reach = np.maximum(np.abs(low), np.abs(high))
    # Of the layer before: sizes of the linear functions, for their rounding; slopes of chords.
    span, slope = np.zeros(weights.shape[2]), np.zeros(weights.shape[2])
    first = depth
    for m in range(depth):
        count = widths[m]
        inputs = k if m == 0 else widths[m - 1]
        affine = first == depth
        if m > 0:
            for j in range(inputs):
                if signs[m - 1, j] < 0:
                    continue
                lo, hi = z_low[m - 1, j], z_high[m - 1, j]
                total = abs(below[m - 1, j, k]) + abs(above[m - 1, j, k]) + abs(lo) + abs(hi)
                for t in range(k):
                    total += max(abs(below[m - 1, j, t]), abs(above[m - 1, j, t])) * reach[t]
                span[j] = total
                if signs[m - 1, j] == 0:
                    slope[j] = hi / (hi - lo)
        for i in range(count):
            if stop[0] != 0:
                return STOPPED
            bias = biases[m, i]
            lower, upper, size_low, size_high = bias, bias, abs(bias), abs(bias)
            error, size = 0.0, abs(bias)
            under, over = below[m, i], above[m, i]
            for t in range(k + 1):
                under[t] = 0.0
                over[t] = 0.0
            if m == 0:
                for j in range(inputs):
                    w = weights[0, i, j]
                    under[j] = w
                    size += abs(w) * reach[j]
                    if w >= 0.0:
                        a, c = w * low[j], w * high[j]
                    else:
                        a, c = w * high[j], w * low[j]
                    lower += a
                    upper += c
                    size_low += abs(a)
                    size_high += abs(c)
                    if w != 0.0 and reach[j] > 0.0:
                        size += UNDERFLOW
                        if a == 0.0 and (low[j] if w > 0.0 else high[j]) != 0.0:
                            size_low += UNDERFLOW
                        if c == 0.0 and (high[j] if w > 0.0 else low[j]) != 0.0:
                            size_high += UNDERFLOW
            else:
                for j in range(inputs):
                    w = weights[m, i, j]
                    sign = signs[m - 1, j]
                    if w == 0.0 or sign < 0:
                        continue
                    lo, hi = z_low[m - 1, j], z_high[m - 1, j]
                    most, least = max(hi, 0.0), max(lo, 0.0)
                    if w > 0.0:
                        a, c = w * least, w * most
                    else:
                        a, c = w * most, w * least
                    lower += a
                    upper += c
                    size_low += abs(a)
                    size_high += abs(c)
                    if a == 0.0 and (least if w > 0.0 else most) > 0.0:
                        size_low += UNDERFLOW
                    if c == 0.0 and (most if w > 0.0 else least) > 0.0:
                        size_high += UNDERFLOW
                    error += abs(w) * errors[m - 1, j]
                    size += abs(w) * span[j] + UNDERFLOW
                    if affine:
                        for t in range(k + 1):
                            under[t] += w * below[m - 1, j, t]
                    elif sign > 0:
                        if w > 0.0:
                            for t in range(k + 1):
                                under[t] += w * below[m - 1, j, t]
                                over[t] += w * above[m - 1, j, t]
                        else:
                            for t in range(k + 1):
                                under[t] += w * above[m - 1, j, t]
                                over[t] += w * below[m - 1, j, t]
                    else:
                        tilted = w * slope[j]
                        if w > 0.0:
                            for t in range(k + 1):
                                over[t] += tilted * above[m - 1, j, t]
                            over[k] -= tilted * lo
                            if hi > -lo:
                                for t in range(k + 1):
                                    under[t] += w * below[m - 1, j, t]
                        else:
                            for t in range(k + 1):
                                under[t] += tilted * above[m - 1, j, t]
                            under[k] -= tilted * lo
                            if hi > -lo:
                                for t in range(k + 1):
                                    over[t] += w * below[m - 1, j, t]
            if affine:
                for t in range(k + 1):
                    over[t] = under[t]
            under[k] += bias
            over[k] += bias
            if size > 0.0:
                error += (inputs + k + 8) * EPSILON * size + UNDERFLOW
            errors[m, i] = error
            if size_low > 0.0:
                lower -= (inputs + 4) * EPSILON * size_low + UNDERFLOW
            if size_high > 0.0:
                upper += (inputs + 4) * EPSILON * size_high + UNDERFLOW
            line_low, line_high = under[k] - error, over[k] + error
            spread = 0.0
            for t in range(k):
                a, c = under[t], over[t]
                line_low += a * low[t] if a >= 0.0 else a * high[t]
                line_high += c * high[t] if c >= 0.0 else c * low[t]
                spread += abs(a) * (high[t] - low[t])
            lower, upper = max(lower, line_low, z_low[m, i]), min(upper, line_high, z_high[m, i])
            sign = signs[m, i]
            # An affine pre-activation that is not constant vanishes on a flat set only: no region has both bounds 0.
            crossing = affine and spread > 4.0 * error
            if lower > upper:
                return EMPTY
            if sign > 0:
                if upper < 0.0 or (upper == 0.0 and crossing):
                    return EMPTY
                if upper == 0.0:
                    signs[m, i] = -1  # dead here, whatever made it active: no gradient either way
            elif sign < 0:
                if lower > 0.0 or (lower == 0.0 and crossing):
                    return EMPTY
            elif upper <= 0.0:
                signs[m, i] = -1
            elif lower >= 0.0:
                signs[m, i] = 1
            z_low[m, i] = lower
            z_high[m, i] = upper
        for i in range(count):
            head = group[m, i]
            if signs[m, head] == 0 and signs[m, i] != 0:
                signs[m, head] = signs[m, i] * turn[m, i]
        for i in range(count):
            head = group[m, i]
            if signs[m, i] == 0:
                signs[m, i] = signs[m, head] * turn[m, i]
            if signs[m, i] > 0 and z_low[m, i] < 0.0:
                z_low[m, i] = 0.0
            elif signs[m, i] < 0 and z_high[m, i] > 0.0:
                z_high[m, i] = 0.0
            if signs[m, i] == 0 and first == depth:
                first = m
    return first


@compiled
def flat_rows(widths, layer, low, high, signs, below, errors, found):  # type: ignore[no-untyped-def]
    """Undecided neurons of an affine layer whose slope rounding cannot tell from zero; entered in `found`, counted."""
    count = 0
    for i in range(widths[layer]):
        if signs[layer, i] == 0:
            spread = 0.0
            for t in range(len(low)):
                spread += abs(below[layer, i, t]) * (high[t] - low[t])
            if spread <= 4.0 * errors[layer, i]:
                found[count] = i
                count += 1
    return count


@compiled
def pull_back(weights, widths, output, inputs, first, signs, rows, u_low, u_high):  # type: ignore[no-untyped-def]
    """Split the Jacobian at a layer: grad f = sum_i d_i u_i rows_i with d_i in {0, 1}, u_i in a range.

    The same holds at every later layer, with rows that are not known yet.

    Args:
        output: (n,), W_L; inputs: (n_1, d), the first weights along which the gradient is taken.
        first: the layer; all earlier ones are decided.
        rows: (n, d), filled: derivatives of the layer's pre-activations.
        u_low, u_high: (L, n), filled from the layer on: ranges of the derivative of f by a layer's activations.
    """
    depth, d = len(widths), inputs.shape[1]
    current = inputs.copy()
    for m in range(1, first + 1):
        following = np.zeros((widths[m], d))
        for i in range(widths[m]):
            for j in range(widths[m - 1]):
                if signs[m - 1, j] > 0:
                    w = weights[m, i, j]
                    for t in range(d):
                        following[i, t] += w * current[j, t]
        current = following
    for i in range(widths[first]):
        for t in range(d):
            rows[i, t] = current[i, t]
    lower, upper = output.copy(), output.copy()
    for m in range(depth - 1, first - 1, -1):
        u_low[m] = lower
        u_high[m] = upper
        if m == first:
            break
        next_low, next_high = np.zeros(len(output)), np.zeros(len(output))
        for i in range(widths[m]):
            a, c = lower[i], upper[i]
            if signs[m, i] < 0:
                continue
            if signs[m, i] == 0:
                a, c = min(a, 0.0), max(c, 0.0)
            for j in range(widths[m - 1]):
                w = weights[m, i, j]
                if w >= 0.0:
                    next_low[j] += w * a
                    next_high[j] += w * c
                else:
                    next_low[j] += w * c
                    next_high[j] += w * a
        lower, upper = next_low, next_high


@compiled
def carry_forward(weights, widths, signs, first, c_low, c_high, along, least, most):  # type: ignore[no-untyped-def]
    """Tighten ranges of <g, c> for E directions c at once, at all layers after the first undecided one.

    Args:
        c_low, c_high: (L, n): ranges of the coefficient of every neuron's row.
        along: (n, E): <rows_i, c> at the layer `first`.
        least, most: (E,), changed.
    """
    depth, n, count = len(widths), weights.shape[1], along.shape[1]
    a, b = np.zeros((n, count)), np.zeros((n, count))
    for i in range(widths[first]):
        sign = signs[first, i]
        if sign >= 0:
            for e in range(count):
                s = along[i, e]
                a[i, e] = s if sign > 0 else min(s, 0.0)
                b[i, e] = s if sign > 0 else max(s, 0.0)
    x, y, low, high = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    for m in range(first + 1, depth):
        next_a, next_b = np.zeros((n, count)), np.zeros((n, count))
        low[:] = 0.0
        high[:] = 0.0
        for j in range(widths[m]):
            if signs[m, j] < 0:
                continue
            x[:] = 0.0
            y[:] = 0.0
            for i in range(widths[m - 1]):
                if signs[m - 1, i] < 0:
                    continue
                w = weights[m, j, i]
                if w >= 0.0:
                    for e in range(count):
                        x[e] += w * a[i, e]
                        y[e] += w * b[i, e]
                else:
                    for e in range(count):
                        x[e] += w * b[i, e]
                        y[e] += w * a[i, e]
            p, q = c_low[m, j], c_high[m, j]
            decided = signs[m, j] > 0
            for e in range(count):
                low[e] += min(min(p * x[e], p * y[e]), min(q * x[e], q * y[e]))
                high[e] += max(max(p * x[e], p * y[e]), max(q * x[e], q * y[e]))
                next_a[j, e] = x[e] if decided else min(x[e], 0.0)
                next_b[j, e] = y[e] if decided else max(y[e], 0.0)
        for e in range(count):
            least[e] = max(least[e], low[e])
            most[e] = min(most[e], high[e])
        a, b = next_a, next_b
