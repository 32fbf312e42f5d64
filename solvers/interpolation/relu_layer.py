"""The second layer of the construction with ReLU features: real numbers, so equality is left a margin.

At the point that attains m = min <u, Phi(x+)> the neuron relu(m - <u, z>) is exactly at its kink, and rounding could
wake it. So m is lowered by a bound on the rounding of these sums, whatever the order: evaluated anywhere, the neuron
is silent there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import UNIT_ROUNDOFF
from solvers.bits.features import pack_bits
from solvers.bits.instructions import LANES
from solvers.errors import InputError
from solvers.interpolation.least_cover import choose_rows

__all__ = ["ReluDetector", "choose_with_relu", "cover_with_relu", "relu_features"]

# 2 GB of features; the threshold construction holds bits instead.
MOST_FEATURES = 2**28
# Centres whose products are held at once.
TOGETHER = 64


@dataclass(frozen=True, slots=True, eq=False)
class ReluDetector:
    """Second-layer neurons of one class.

    Attributes:
        centres: rows x* of the neurons in order of acceptance. masks: u, (M, n). thresholds: m, (M,).
        offset: c, half the least score sum over the points of the class that a neuron covers; 1 without neurons.
        tried: candidates that were tried, those with m = 0 included.
        at_least: no choice among all points has fewer neurons; 0 where nothing is known.
    """

    centres: NDArray[np.int64]
    masks: NDArray[np.bool_]
    thresholds: FloatArray
    offset: float
    tried: int
    at_least: int = 0


def relu_features(points: FloatArray, weights: FloatArray, biases: FloatArray) -> tuple[FloatArray, float]:
    """Phi(x) = relu(W x + b), (N, n), and a bound on the rounding of <u, Phi(x)> for 0/1 vectors u.

    The factor 4 leaves room for evaluating at points that were scaled, which rounds once more.

    Raises:
        InputError: N n numbers are more than fit in 2 GB.
    """
    (count, d), n = points.shape, len(biases)
    if count * n > MOST_FEATURES:
        raise InputError(f"ReLU features of {count} points at width {n} do not fit in 2 GB: take fewer of either")
    features = points @ weights.T
    features += biases
    np.maximum(features, 0.0, out=features)
    size = float((np.abs(points) @ np.abs(weights).sum(axis=0)).max() + np.abs(biases).sum())
    return features, 4 * (n + d + 4) * UNIT_ROUNDOFF * size


def cover_with_relu(
    features: FloatArray, slack: float, own: NDArray[np.int64], others: NDArray[np.int64], order: Sequence[int]
) -> ReluDetector:
    """Neurons relu(m - <u, z>) that cover a class and are silent on all other points.

    Args:
        features: Phi of all points. slack: bound on the rounding of <u, Phi(x)>.
        own, others: rows of the class and of all other classes.
        order: places in `own` in their drawn order.
    Source: [DFG24, Algorithm 2, lines 3 to 12].
    """
    minus, plus = features[own], features[others]
    alive = np.ones(len(own), dtype=np.bool_)
    sums = np.zeros(len(own))
    centres, thresholds, tried = [], [], 0
    for star in order:
        if not alive[star]:
            continue
        alive[star] = False
        tried += 1
        u = (minus[star] == 0).astype(np.float64)
        m = float((plus @ u).min()) - 2 * slack
        if m <= 2 * slack:
            continue
        active = _active(m, minus @ u, slack)
        sums += active
        alive &= active == 0
        centres.append(star)
        thresholds.append(m)
    return _detector(own, np.array(centres, dtype=np.int64), minus, np.array(thresholds), sums, tried)


def choose_with_relu(
    features: FloatArray,
    slack: float,
    own: NDArray[np.int64],
    others: NDArray[np.int64],
    least: bool,
    seconds: float,
) -> ReluDetector:
    """The same with centres chosen from all points of the class: greedily, or with `least` as few as a program finds.

    Args:
        seconds: for the program.
    """
    minus, plus = features[own], features[others]
    thresholds = np.empty(len(own))
    covers = np.empty((len(own), -(-len(own) // LANES)), dtype=np.uint64)
    for start in range(0, len(own), TOGETHER):
        part = slice(start, start + TOGETHER)
        masks = (minus[part] == 0).astype(np.float64).T
        thresholds[part] = (plus @ masks).min(axis=0) - 2 * slack
        active = _active(thresholds[part, None], (minus @ masks).T, slack)
        covers[part] = pack_bits((active > 0) & (thresholds[part, None] > 2 * slack))
    chosen, at_least = choose_rows(covers, least, seconds)
    sums = np.zeros(len(own))
    for star in chosen.tolist():
        sums += _active(thresholds[star], minus @ (minus[star] == 0).astype(np.float64), slack)
    return _detector(own, chosen, minus, thresholds[chosen], sums, len(own), at_least)


def _active(thresholds: FloatArray | float, products: FloatArray, slack: float) -> FloatArray:
    """m - <u, z> where a neuron covers; 0 elsewhere, for what rounding could let sleep is not covered."""
    active = thresholds - products
    covering: FloatArray = np.where(active > 2 * slack, active, 0.0)
    return covering


def _detector(
    own: NDArray[np.int64],
    chosen: NDArray[np.int64],
    minus: FloatArray,
    thresholds: FloatArray,
    sums: FloatArray,
    tried: int,
    at_least: int = 0,
) -> ReluDetector:
    offset = float(sums[sums > 0].min()) / 2 if (sums > 0).any() else 1.0
    return ReluDetector(own[chosen], minus[chosen] == 0, thresholds, offset, tried, at_least)
