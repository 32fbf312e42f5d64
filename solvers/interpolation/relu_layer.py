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
from solvers.errors import InputError

__all__ = ["ReluDetector", "cover_with_relu", "relu_features"]

# 2 GB of features; the threshold construction holds bits instead.
MOST_FEATURES = 2**28


@dataclass(frozen=True, slots=True, eq=False)
class ReluDetector:
    """Second-layer neurons of one class.

    Attributes:
        centres: rows x* of the neurons in order of acceptance. masks: u, (M, n). thresholds: m, (M,).
        offset: c, half the least score sum over the points of the class that a neuron covers; 1 without neurons.
        tried: candidates that were tried, those with m = 0 included.
    """

    centres: NDArray[np.int64]
    masks: NDArray[np.bool_]
    thresholds: FloatArray
    offset: float
    tried: int


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
    centres, masks, thresholds, tried = [], [], [], 0
    for star in order:
        if not alive[star]:
            continue
        alive[star] = False
        tried += 1
        mask = minus[star] == 0
        u = mask.astype(np.float64)
        m = float((plus @ u).min()) - 2 * slack
        if m <= 2 * slack:
            continue
        active = m - minus @ u
        # What rounding could let sleep is not covered.
        covered = active > 2 * slack
        sums += np.where(covered, active, 0.0)
        alive &= ~covered
        centres.append(star)
        masks.append(mask)
        thresholds.append(m)
    return ReluDetector(
        own[np.array(centres, dtype=np.int64)],
        np.array(masks, dtype=np.bool_).reshape(len(masks), features.shape[1]),
        np.array(thresholds, dtype=np.float64),
        float(sums[sums > 0].min()) / 2 if (sums > 0).any() else 1.0,
        tried,
    )
