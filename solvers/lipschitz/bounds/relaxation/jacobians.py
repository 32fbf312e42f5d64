"""Ranges of derivatives under a partial activation pattern, by lines and by intervals carried through the Jacobian.

grad f = W_0' y_0 with y_m = d_m u_m, u_{m-1} = W_m' y_m, u_{L-1} the output's weights, and d_m in [0, 1] neuron by
neuron: 1 if active, 0 if silent, else unknown. So the derivatives u_m run through a network of their own, from the
output to the inputs, in which an undecided neuron gives anything between min(u, 0) and max(u, 0): between two lines
over the range of u. No bound here is above that of intervals alone, which are intersected with it.

Loose where many undecided neurons follow each other: every neuron takes its worst slope for each derivative by itself.

Sources: Fast-Lip [Weng18] and RecurJac [ZZH19] for intervals; [SWZKH22] for lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW
from solvers.lipschitz.bounds.relaxation.chain import Chain, Link, lower_bounds

__all__ = ["jacobian_work", "longest_gradient"]


def jacobian_work(widths: Sequence[int], d: int) -> float:
    """Floating-point operations of `longest_gradient`, about."""
    sizes = [d, *widths]
    products = [m * n for m, n in itertools.pairwise(widths)]
    return float(sum(6 * 2 * sizes[k] * (sum(products[k:]) + sizes[k + 1]) for k in range(len(widths))))


def longest_gradient(
    weights: Sequence[FloatArray],
    output: FloatArray,
    inputs: FloatArray,
    signs: Sequence[NDArray[np.int8]],
    q: float,
    directions: FloatArray | None = None,
) -> float:
    """No gradient whose neurons have these signs is longer in l_q; rounded upward.

    Args:
        weights: W_1 to W_{L-1}; output: (n_L,); inputs: (n_1, d), along which the gradient is taken.
        signs: per hidden layer (n,): 1 active, -1 silent, 0 undecided.
        directions: (C, d), where ||g||_q is the largest |<g, c>| over the rows.
    """
    y_low, y_high = _gated(output, output, signs[-1])
    chain = Chain.of(y_low, y_high)
    for w, sign in zip(reversed(weights), reversed(signs[:-1]), strict=True):
        kept = np.flatnonzero(sign >= 0)
        rows = np.ascontiguousarray(w.T[kept][:, chain.places])
        low, high = _ranges(chain, rows, y_low, y_high)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return np.inf
        y_low, y_high = _gated(low, high, sign[kept])
        chain = chain.then(_link(chain, rows, kept, low, high, sign[kept] == 0), _size(y_low, y_high))
    rows = np.ascontiguousarray(inputs.T[:, chain.places])
    low, high = _ranges(chain, rows, y_low, y_high)
    reach = _size(low, high)
    if not np.isfinite(reach).all():
        return np.inf
    bound = float(vector_norm(reach, q)) * (1 + 8 * (len(reach) + 16) * EPSILON)
    if directions is None or np.isinf(q):
        return bound
    d = len(reach)
    chain = chain.then(_link(chain, rows, np.arange(d), low, high, np.zeros(d, bool)), reach)
    return min(bound, float(_size(*_ranges(chain, directions, low, high)).max()))


def _gated(low: FloatArray, high: FloatArray, signs: NDArray[np.int8]) -> tuple[FloatArray, FloatArray]:
    """Ranges of d u from those of u."""
    least = np.where(signs > 0, low, np.where(signs == 0, np.minimum(low, 0.0), 0.0))
    return least, np.where(signs > 0, high, np.where(signs == 0, np.maximum(high, 0.0), 0.0))


def _size(low: FloatArray, high: FloatArray) -> FloatArray:
    return np.maximum(np.abs(low), np.abs(high))


def _ranges(chain: Chain, rows: FloatArray, y_low: FloatArray, y_high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ranges of rows y: along the chain, and from the ranges (n,) of y alone."""
    both = np.concatenate([rows, -rows])
    found = lower_bounds(Chain.of(y_low, y_high), both, np.zeros(len(both)))
    if chain.links:
        found = np.maximum(found, lower_bounds(chain, both, np.zeros(len(both))))
    return found[: len(rows)], -found[len(rows) :]


def _link(
    chain: Chain, rows: FloatArray, kept: NDArray[np.int64], low: FloatArray, high: FloatArray, open_: NDArray[np.bool_]
) -> Link:
    """Lines around d u: u itself where d = 1; else below max(u, 0), above min(u, 0), which meet them at both ends."""
    split = open_ & (low < 0) & (high > 0)
    share = np.where(split, np.minimum(high / np.where(split, high - low, 1.0), 1.0), 0.0)
    above = np.where(split, share, np.where(open_, low >= 0, True))
    below = np.where(split, 1 - share, np.where(open_, (high <= 0) & (low < 0), True))
    grown = 1 + 8 * EPSILON
    top = np.where(split, np.maximum(-above * low, (1 - above) * high) * grown + UNDERFLOW, 0.0)
    base = np.where(split, np.minimum((1 - below) * low, -below * high) * grown - UNDERFLOW, 0.0)
    no = np.zeros(len(kept))
    sizes = chain.sizes(rows, no)
    return Link(rows, no, kept, below.astype(float), base, above.astype(float), top, np.zeros(len(kept), bool), sizes)
