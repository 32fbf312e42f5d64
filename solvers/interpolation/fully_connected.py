"""The fully connected construction of [DFG24]: a random first layer, a second layer that covers class after class."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.interpolation._base import AbstractInterpolator, Construction, check_first_layer, detected_classes
from solvers.interpolation.bit_features import (
    block_rows,
    block_words,
    feature_blocks,
    informative_order,
    pack_bits,
    unpack_words,
    valid_bits,
)
from solvers.interpolation.bit_instructions import LANES
from solvers.interpolation.covering_layer import cover_class
from solvers.problems import InterpolationProblem
from solvers.threshold_networks import ThresholdNetwork

__all__ = ["FullyConnected"]


@dataclass(frozen=True)
class FullyConnected(AbstractInterpolator):
    """Two hidden layers of threshold neurons; one second layer per class, one against the rest.

    Attributes:
        width: n, neurons of the first layer.
        max_bias: lambda; first-layer biases are uniform on [-lambda, lambda].
        minus: for two classes, the label of the covered class "-"; the last one in sorted order when left out.
        device: torch device for the evaluation.
    Source: [DFG24], Algorithm 2.
    """

    width: int
    max_bias: float
    minus: object = None
    device: str = "cpu"
    name: ClassVar[str] = "fully-connected"
    summary: ClassVar[str] = "random first layer, second layer by covering one class after the other"

    def __post_init__(self) -> None:
        check_first_layer(self.width, self.max_bias)

    def _solve(self, problem: InterpolationProblem, rng: np.random.Generator) -> Construction:
        started = time.perf_counter()
        n, d = self.width, problem.points.shape[1]
        detectors = detected_classes(problem, self.minus)
        weights = rng.standard_normal((n, d))
        biases = rng.uniform(-self.max_bias, self.max_bias, size=n)
        rows, starts = block_rows([np.flatnonzero(problem.labels == k) for k in range(len(problem.classes))])
        features = informative_order(problem.points, weights, biases)
        blocks = feature_blocks(problem.points, rows, weights[features], biases[features])
        featured = time.perf_counter()
        masks, thresholds, centres, passes = [], [], [], 0
        for k in detectors:
            first, last = int(starts[k]), int(starts[k + 1])
            places = first * LANES + rng.permutation(int((problem.labels == k).sum()))
            chosen, least, looked = cover_class(blocks, first, last, valid_bits(n), places)
            bits = np.empty((len(chosen), n), dtype=np.bool_)
            bits[:, features] = ~unpack_words(block_words(blocks, chosen), n)
            masks.append(pack_bits(bits))
            thresholds.append(least)
            centres.append(rows[chosen])
            passes += looked
        stats = {
            "passes": float(passes),
            "feature_seconds": featured - started,
            "cover_seconds": time.perf_counter() - featured,
        }
        network = ThresholdNetwork(weights, biases, tuple(masks), tuple(thresholds), detectors, problem.classes)
        return Construction(network, tuple(centres), stats)
