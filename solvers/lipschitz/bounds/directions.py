"""The dual view: vectors c such that ||g||_q is the largest |<g, c>|, for q = inf and q = 1.

For a shallow network max over patterns of <grad f, c> is sum_j (v_j <w_j, c>)_+, whatever the domain. So most sign
vectors fall to the incumbent before the search begins: in 20 dimensions and with 40 neurons, all but a handful.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.norms import FloatArray
from solvers.networks.relu import ReluNetwork

__all__ = ["dual_directions"]

# Sign vectors that are looked at all at once: as directions of a search; against the incumbent, for shallow networks.
MOST_SIGNED = 12
MOST_SCREENED = 22
MOST_KEPT = 4096


def dual_directions(network: ReluNetwork, q: float, floor: float = -np.inf) -> FloatArray | None:
    """Directions that can give a gradient longer than the floor.

    Args:
        network: with one output and at least one hidden layer.
        q: the norm of gradients.
        floor: directions that reach no further are left out.
    Returns:
        Shape (C, d), C >= 0; None where there is no such finite set, or too large a one.
    """
    d = network.input_dimension
    if np.isinf(q) or d == 1:
        return np.eye(d)
    if q != 1:
        return None
    if network.depth == 1 and d <= MOST_SCREENED and floor > 0:
        reach = network.weights[0] * network.weights[1].T
        drift = 1e-12 * float(np.abs(reach).sum())
        kept = _far_reaching(np.ascontiguousarray(reach), floor * (1 - 1e-9) - drift, MOST_KEPT)
        if len(kept) <= MOST_KEPT:
            return _signs(kept, d)
    if d <= MOST_SIGNED:
        return _signs(np.arange(2 ** (d - 1)), d)
    return None


def _signs(indices: np.ndarray, d: int) -> FloatArray:
    bits = (indices[:, None] >> np.arange(d)) & 1
    return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)


@compiled
def _far_reaching(reach, floor, most):  # type: ignore[no-untyped-def]
    """Sign vectors c (as bits, the last one +1) with sum_j (<r_j, c>)_+ or sum_j (-<r_j, c>)_+ above the floor.

    Gray code: one sign changes at a time. Sums start anew every 1024 steps, so their drift stays below 1e-12 of the sum
    of all sizes.
    """
    n, d = reach.shape
    found = np.empty(most + 1, dtype=np.int64)
    count = 0
    along = np.zeros(n)
    columns = np.ascontiguousarray(reach.T)
    code = 0
    for step in range(1 << (d - 1)):
        if step % 1024 == 0:
            code = step ^ (step >> 1)
            for j in range(n):
                along[j] = 0.0
            for t in range(d):
                if (code >> t) & 1:
                    for j in range(n):
                        along[j] -= columns[t, j]
                else:
                    for j in range(n):
                        along[j] += columns[t, j]
        else:
            t = 0
            while not (step >> t) & 1:
                t += 1
            code ^= 1 << t
            factor = -2.0 if (code >> t) & 1 else 2.0
            for j in range(n):
                along[j] += factor * columns[t, j]
        above, below = 0.0, 0.0
        for j in range(n):
            above += max(along[j], 0.0)
            below += max(-along[j], 0.0)
        if above > floor or below > floor:
            found[count] = code
            count += 1
            if count > most:
                break
    return found[:count].copy()
