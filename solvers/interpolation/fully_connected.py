"""The fully connected construction of [DFG24]: a random first layer, a second layer that covers class after class."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from solvers.interpolants import Interpolant
from solvers.interpolation._base import AbstractInterpolator, check_first_layer, detected_classes
from solvers.interpolation.bit_features import Words, feature_words
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

    def _solve(self, problem: InterpolationProblem, rng: np.random.Generator) -> Interpolant:
        started = time.perf_counter()
        n, d = self.width, problem.points.shape[1]
        weights = rng.standard_normal((n, d))
        biases = rng.uniform(-self.max_bias, self.max_bias, size=n)
        # Points sorted by class: "the rest" is then two stretches of columns.
        rows = np.argsort(problem.labels, kind="stable")
        ends = np.cumsum(np.bincount(problem.labels, minlength=len(problem.classes)))
        words = feature_words(problem.points[rows], weights, biases)
        featured = time.perf_counter()
        masks, thresholds, centres, passes = [], [], [], 0
        detectors = detected_classes(problem, self.minus)
        for k in detectors:
            last = int(ends[k])
            first = int(ends[k - 1]) if k else 0
            order = rng.permutation(np.arange(first, last))
            chosen, least, looked = cover_class(words, first, last, n, order)
            masks.append(_masks(words, chosen, n))
            thresholds.append(least)
            centres.append(rows[chosen])
            passes += looked
        covered = time.perf_counter()
        network = ThresholdNetwork(weights, biases, tuple(masks), tuple(thresholds), detectors, problem.classes)
        missed = np.flatnonzero(network.predict(problem.points, self.device) != problem.labels)
        finished = time.perf_counter()
        stats = {
            "passes": float(passes),
            "feature_seconds": featured - started,
            "cover_seconds": covered - featured,
            "evaluation_seconds": finished - covered,
            "wall_seconds": finished - started,
        }
        return Interpolant(network, missed, tuple(centres), len(problem.labels), stats)


def _masks(words: Words, columns: NDArray[np.int64], width: int) -> Words:
    """u = 1[Phi(x*) = 0] for some points, packed by rows: (M, ceil(n / 64))."""
    masks = np.ascontiguousarray(~words[:, columns].T)
    spare = words.shape[0] * 64 - width
    masks[:, -1] &= np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(spare)
    return masks
