"""Ranges of pre-activations on a box, tightened layer by layer by bounds that are carried backward.

The forward ranges (`bounds.ranges`) come first. Then, from the second layer on, each undecided neuron is bounded from
both sides by lines of the layers before, with slopes chosen for it alone; what is found is intersected with what is
known, and later layers start from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW
from solvers.lipschitz.bounds.relaxation.chain import Chain, Link, lower_bounds
from solvers.lipschitz.bounds.relaxation.optimised import ascended
from solvers.problems.budget import Budget, Deadline

__all__ = ["STEPS", "BoxLayers", "Ranges", "RowSlopes", "tighten"]

# Steps of an ascent: later ones gain less than a hundredth of a width.
STEPS = 24
# Slopes of the rows of a layer: more are not looked for, and each row takes the adaptive ones.
MOST_SLOPES = 1 << 22
# Slopes are kept to so many digits, which costs nothing: they are near 0 or 1 or matter little.
DIGITS = 2
# Floating-point operations a second that products of matrices are sure to reach, and the most that a layer's bounds and
# its ascent may take, whatever the time limit.
SURE_RATE, MOST_WORK = 2e9, 1e11


@dataclass(frozen=True, slots=True, eq=False)
class BoxLayers:
    """The hidden layers of a network, W_m (n_m, n_{m-1}) and b_m (n_m,), on a box (k,)."""

    weights: Sequence[FloatArray]
    biases: Sequence[FloatArray]
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """What is known of every hidden layer, changed in place.

    Attributes:
        low, high: (n_m,), finite.
        signs: (n_m,) int8: 1 active, -1 silent, 0 undecided. A neuron may be decided although its range says less, as
            at a node of a search; then everything holds where it has that sign.
    """

    low: Sequence[FloatArray]
    high: Sequence[FloatArray]
    signs: Sequence[NDArray[np.int8]]


@dataclass(frozen=True, slots=True, eq=False)
class RowSlopes:
    """Slopes below the undecided neurons of earlier layers, for some neurons of one layer.

    Attributes:
        layer: the layer m that they bound.
        rows: (R,): 2 i for the lower end of neuron i, 2 i + 1 for the upper.
        neurons: per earlier layer (f_j,): the undecided ones.
        values: per earlier layer (R, f_j), in [0, 1].
    """

    layer: int
    rows: NDArray[np.int64]
    neurons: Sequence[NDArray[np.int64]]
    values: Sequence[FloatArray]


def tighten(
    layers: BoxLayers,
    ranges: Ranges,
    steps: int = STEPS,
    deadline: Deadline | None = None,
    warm: Mapping[int, RowSlopes] | None = None,
) -> list[RowSlopes]:
    """Tighten all ranges, and decide the neurons that they then decide.

    Args:
        steps: of the ascent; 0 takes slopes as they are in `warm`, and elsewhere 1 below a neuron that is more above 0
            than below, else 0.
        deadline: layers that do not fit into it stay as they are.
        warm: by layer, slopes to begin with, such as those of a parent node; rows that are not there begin anew.
    Returns:
        The slopes that were used, by layer.
    """
    deadline = Budget().start() if deadline is None else deadline
    chain = Chain.of(layers.low, layers.high)
    used: list[RowSlopes] = []
    for m, (weights, biases) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        low, high, signs = ranges.low[m], ranges.high[m], ranges.signs[m]
        open_ = np.flatnonzero((signs == 0) & (low < 0) & (high > 0))
        own = weights[:, chain.places]
        if len(open_) and any(link.free.any() for link in chain.links):
            rows = np.concatenate([own[open_], -own[open_]])
            offsets = np.concatenate([biases[open_], -biases[open_]])
            codes = np.concatenate([2 * open_, 2 * open_ + 1])
            work = 6.0 * len(rows) * chain.work
            if work > min(MOST_WORK, SURE_RATE * deadline.remaining):
                return used
            start = _started(chain, codes, (warm or {}).get(m))
            most = min(steps, int(MOST_WORK / work))
            if start is not None and most:
                half = Budget(seconds=deadline.remaining / 2).start()
                start = [np.round(s, DIGITS) for s in ascended(chain, rows, offsets, start, most, half)]
            found = lower_bounds(chain, rows, offsets, start)
            low[open_] = np.maximum(low[open_], found[: len(open_)])
            high[open_] = np.minimum(high[open_], -found[len(open_) :])
            signs[open_] = np.where(low[open_] >= 0, 1, np.where(high[open_] <= 0, -1, 0))
            if start is not None:
                neurons = [link.kept[link.free] for link in chain.links]
                values = [s[:, link.free] for s, link in zip(start, chain.links, strict=True)]
                used.append(RowSlopes(m, codes, neurons, values))
        chain = _followed(chain, own, biases, low, high, signs)
    return used


def _followed(
    chain: Chain, weights: FloatArray, biases: FloatArray, low: FloatArray, high: FloatArray, signs: NDArray[np.int8]
) -> Chain:
    """The chain with the lines of one more layer: z of active neurons, a chord above undecided ones."""
    kept = np.flatnonzero((signs >= 0) & (high > 0))
    weights, biases, low, high = weights[kept], biases[kept], low[kept], high[kept]
    free = (signs[kept] == 0) & (low < 0)
    # Any slope in [0, 1] gives a line above, once it clears relu at both ends of the range.
    above = np.where(free, np.minimum(high / np.where(free, high - low, 1.0), 1.0), 1.0)
    top = np.where(free, np.maximum(-above * low, (1 - above) * high) * (1 + 8 * EPSILON) + UNDERFLOW, 0.0)
    below = np.where(free, (high > -low).astype(np.float64), 1.0)
    sizes = chain.sizes(weights, biases)
    return chain.then(Link(weights, biases, kept, below, np.zeros(len(kept)), above, top, free, sizes), high)


def _started(chain: Chain, codes: NDArray[np.int64], warm: RowSlopes | None) -> list[FloatArray] | None:
    """Slopes per link of the chain, (R, n), to begin with; None where there are too many of them."""
    if len(codes) * sum(len(link.free) for link in chain.links) > MOST_SLOPES:
        return None
    start = [np.repeat(link.below[None], len(codes), axis=0) for link in chain.links]
    if warm is not None:
        _, mine, theirs = np.intersect1d(codes, warm.rows, assume_unique=True, return_indices=True)
        for slopes, link, neurons, values in zip(start, chain.links, warm.neurons, warm.values, strict=True):
            _, here, there = np.intersect1d(link.kept, neurons, assume_unique=True, return_indices=True)
            still = link.free[here]
            slopes[np.ix_(mine, here[still])] = values[np.ix_(theirs, there[still])]
    return start
