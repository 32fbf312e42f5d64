"""A compiled program that prices what a point of a box breaks: least penalties, by the long-step simplex method.

    minimise  sum_j y_j beta_j + || sum_j y_j a_j ||_1  over  0 <= y_j <= cap_j

is the dual of: maximise - sum_j cap_j max(0, -(a_j xi + beta_j)) over xi in [-1, 1]^k, rows of infinite cap being
obeyed. So many rows end at their cap that a method which starts from a guess of them takes a third of the steps.

Nothing it says is trusted: any y within its caps is a bound for whoever evaluates it with rounding outward.

Sources: [Fou85] for the simplex method on sums of piecewise linear terms, whose steps run through their kinks;
[Kob05, chapter 3].
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled

__all__ = ["least_penalty"]

PIVOT, REDUCED, FLAT = 1e-11, 1e-9, 1e-12


# Long on purpose: one simplex step changes the basis, the states of rows and the values together.
@compiled
def least_penalty(rows, beta, turn, cap, count, start, enough, most, y, xi):  # type: ignore[no-untyped-def]
    """Multipliers near the least.

    Args:
        rows: (k, m); beta (m,): rows a_j and constants, of the size of 1; the first `count` columns count.
        turn: (m,): -1.0 where a row is to be read with the other sign, 0.0 where not at all.
        cap: (m,): of multipliers; inf for rows that must be obeyed.
        start, enough: the value without multipliers; from which on less is of no interest.
        most: steps allowed.
        y: (m,), filled; xi: (k,): a guess, changed to the point that obeys and breaks what the multipliers say.
    """
    k = len(xi)
    # The basis solves sum_j y_j a_j = f; of f the size is paid, of basic rows beta.
    state = np.zeros(count, dtype=np.int8)  # 1 at its cap, 2 in the basis
    value, f = start, np.zeros(k)
    for j in range(count):
        y[j] = 0.0
        if turn[j] != 0.0 and cap[j] < np.inf:
            z = beta[j]
            for t in range(k):
                z += rows[t, j] * xi[t]
            if turn[j] * z < 0.0:
                y[j] = cap[j]
                state[j] = 1
                value += cap[j] * turn[j] * beta[j]
                for t in range(k):
                    f[t] += cap[j] * turn[j] * rows[t, j]
    basis, is_basic = np.arange(k), np.ones(k, dtype=np.bool_)  # f_0 .. f_(k-1), then y_0 ..
    inverse, price, u = np.zeros((k, k)), np.empty(k), np.empty(k)
    for t in range(k):
        inverse[t, t] = -1.0
        value += abs(f[t])
        price[t] = 1.0 if f[t] > 0.0 or (f[t] == 0.0 and xi[t] > 0.0) else -1.0
    held = f  # values of basic variables
    z = np.empty(count)
    steps, places = np.empty(k), np.empty(k, dtype=np.int64)
    for _ in range(most):
        if value <= enough:
            break
        for t in range(k):
            total = 0.0
            for r in range(k):
                total += price[r] * inverse[r, t]
            xi[t] = -total
        for j in range(count):
            z[j] = beta[j]
        for t in range(k):
            factor = xi[t]
            for j in range(count):
                z[j] += rows[t, j] * factor
        best, entering, way = REDUCED, -1, 1.0
        for j in range(count):
            if state[j] == 2 or turn[j] == 0.0:
                continue
            reduced = turn[j] * z[j]
            if state[j] == 0 and -reduced > best:
                best, entering, way = -reduced, k + j, 1.0
            elif state[j] == 1 and reduced > best:
                best, entering, way = reduced, k + j, -1.0
        for t in range(k):
            if not is_basic[t] and abs(xi[t]) - 1.0 > best:
                best, entering, way = abs(xi[t]) - 1.0, t, 1.0 if xi[t] > 0.0 else -1.0
        if entering < 0:
            break
        for r in range(k):
            total = 0.0
            if entering >= k:
                for t in range(k):
                    total -= inverse[r, t] * rows[t, entering - k]
                total *= turn[entering - k]
            else:
                total = inverse[r, entering]
            u[r] = total * way
        found = 0
        for r in range(k):
            v = basis[r]
            if abs(u[r]) < PIVOT or (v < k and price[r] * u[r] >= 0.0):
                continue
            if v < k or u[r] < 0.0:
                reach = max(0.0, -held[r] / u[r])
            else:
                reach = max(0.0, (cap[v - k] - held[r]) / u[r])
            if reach < np.inf:
                steps[found], places[found] = reach, r
                found += 1
        limit = cap[entering - k] if entering >= k else np.inf
        step, slope, leaving = 0.0, -best, -1
        while True:
            nearest = -1
            for e in range(found):
                if places[e] >= 0 and (nearest < 0 or steps[e] < steps[nearest]):
                    nearest = e
            if nearest < 0 or steps[nearest] >= limit:
                value += slope * (limit - step)
                step = limit
                break
            value += slope * (steps[nearest] - step)
            step = steps[nearest]
            r = places[nearest]
            places[nearest] = -1
            if basis[r] < k:
                slope += 2.0 * abs(u[r])
                if slope < -FLAT:
                    price[r] = -price[r]
                    continue
            leaving = r
            break
        if step == np.inf:  # without a bound below: no point obeys
            break
        for r in range(k):
            held[r] += u[r] * step
        if leaving < 0:
            state[entering - k] = 1 if way > 0.0 else 0
            y[entering - k] = limit if way > 0.0 else 0.0
            continue
        v = basis[leaving]
        if v >= k:
            state[v - k] = 0 if u[leaving] < 0.0 else 1
            y[v - k] = 0.0 if u[leaving] < 0.0 else cap[v - k]
        else:
            is_basic[v] = False
        pivot = -u[leaving] * way
        for t in range(k):
            inverse[leaving, t] /= pivot
        for r in range(k):
            factor = -u[r] * way
            if r != leaving and factor != 0.0:
                for t in range(k):
                    inverse[r, t] -= factor * inverse[leaving, t]
        basis[leaving] = entering
        if entering >= k:
            held[leaving] = way * step + (cap[entering - k] if way < 0.0 else 0.0)
            price[leaving] = turn[entering - k] * beta[entering - k]
            state[entering - k] = 2
        else:
            held[leaving] = way * step
            price[leaving] = way
            is_basic[entering] = True
    for r in range(k):
        if basis[r] >= k:
            y[basis[r] - k] = min(max(held[r], 0.0), cap[basis[r] - k])
