"""The fully connected construction of [DFG24]: a random first layer, a second layer that covers class after class."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.threads import allowed_threads, spread
from solvers.bits.features import (
    block_rows,
    block_words,
    feature_blocks,
    informative_order,
    pack_bits,
    unpack_words,
    valid_bits,
)
from solvers.bits.instructions import LANES
from solvers.errors import InputError
from solvers.interpolation._base import AbstractInterpolator, Construction, check_first_layer, detected_classes
from solvers.interpolation.relu_layer import cover_with_relu, relu_features
from solvers.interpolation.threshold_layer import ClassTask, Deal, cover_class
from solvers.networks.relu_classifier import ReluClassifier
from solvers.networks.threshold import ThresholdNetwork
from solvers.problems.questions import InterpolationProblem

__all__ = ["Activation", "FullyConnected"]

Activation: TypeAlias = Literal["threshold", "relu"]


@dataclass(frozen=True)
class FullyConnected(AbstractInterpolator):
    """Two hidden layers of threshold or ReLU neurons; one second layer per class, one against the rest.

    Attributes:
        width: n, neurons of the first layer.
        max_bias: lambda; first-layer biases are uniform on [-lambda, lambda].
        minus: for two classes, the label of the covered class "-"; the last one in sorted order when left out.
        device: torch device for the first layer's products and for the evaluation.
        activation: of both hidden layers; "relu" gives a `ReluClassifier`, whose Lipschitz constant can be computed.
        threads: that share one construction; when left out one for small data, else as many as torch may use, which
            workers set to their number of CPUs. The network is the same for all.
        deal: covers the classes elsewhere: given the features, the mask of all of them and a task for each class, what
            `cover_class` gives for each.
    Source: [DFG24, Algorithm 2].
    """

    width: int
    max_bias: float
    minus: object = None
    device: str = "cpu"
    threads: int | None = None
    activation: Activation = "threshold"
    deal: Deal | None = None
    name: ClassVar[str] = "fully-connected"
    summary: ClassVar[str] = "random first layer, second layer by covering one class after the other"
    options: ClassVar[tuple[str, ...]] = ("activation",)

    def __post_init__(self) -> None:
        check_first_layer(self.width, self.max_bias)
        if self.threads is not None and self.threads < 1:
            raise InputError(f"a construction needs at least one thread, got {self.threads}")
        if self.activation not in get_args(Activation):
            raise InputError(f"the activation must be {' or '.join(get_args(Activation))}, got {self.activation!r}")

    @property
    def drawn_for(self) -> tuple[object, ...]:
        """The activation asks another question of the same draws."""
        # No shape and no kernel: the content that the streams of this construction derive from since there is a search.
        return None, None

    def dealt(self, deal: Deal) -> FullyConnected:
        if self.activation != "threshold":
            raise InputError("classes are covered elsewhere for threshold neurons only")
        return replace(self, deal=deal)

    def _solve(self, problem: InterpolationProblem, rng: np.random.Generator) -> Construction:
        started = time.perf_counter()
        n, d = self.width, problem.points.shape[1]
        detectors = detected_classes(problem, self.minus)
        weights = rng.standard_normal((n, d))
        biases = rng.uniform(-self.max_bias, self.max_bias, size=n)
        if self.activation == "relu":
            return self._relu(problem, weights, biases, rng)
        rows, starts = block_rows([np.flatnonzero(problem.labels == k) for k in range(len(problem.classes))])
        features = informative_order(problem.points, weights, biases)
        threads = allowed_threads(n * len(problem.points), self.threads)
        blocks = feature_blocks(problem.points, rows, weights[features], biases[features], threads, self.device)
        featured = time.perf_counter()
        tasks = [
            ClassTask(
                int(starts[k]),
                int(starts[k + 1]),
                int(starts[k]) * LANES + rng.permutation(int((problem.labels == k).sum())),
            )
            for k in detectors
        ]
        if self.deal is not None:
            covered = self.deal(blocks, valid_bits(n), tasks)
        else:
            # Classes are independent; a lone one shares its passes instead.
            alone = threads if len(tasks) == 1 else 1
            covered = spread(lambda task: cover_class(blocks, task.first, task.last, valid_bits(n), task.order, alone),
                             tasks, threads)  # fmt: skip
        masks, thresholds, centres, candidates = [], [], [], 0
        for chosen, least, tried in covered:
            bits = np.empty((len(chosen), n), dtype=np.bool_)
            bits[:, features] = ~unpack_words(block_words(blocks, chosen), n)
            masks.append(pack_bits(bits))
            thresholds.append(least)
            centres.append(rows[chosen])
            candidates += tried
        stats = {
            "candidates": float(candidates),
            "feature_seconds": featured - started,
            "cover_seconds": time.perf_counter() - featured,
        }
        network = ThresholdNetwork(weights, biases, tuple(masks), tuple(thresholds), detectors, problem.classes)
        return Construction(network, tuple(centres), stats)

    def _relu(
        self, problem: InterpolationProblem, weights: FloatArray, biases: FloatArray, rng: np.random.Generator
    ) -> Construction:
        """The same with sigma the ReLU, from the same draws."""
        started = time.perf_counter()
        detectors = detected_classes(problem, self.minus)
        features, slack = relu_features(problem.points, weights, biases)
        featured = time.perf_counter()
        found = []
        for k in detectors:
            mine = problem.labels == k
            order = rng.permutation(int(mine.sum())).tolist()
            found.append(cover_with_relu(features, slack, np.flatnonzero(mine), np.flatnonzero(~mine), order))
        stats = {
            "candidates": float(sum(detector.tried for detector in found)),
            "feature_seconds": featured - started,
            "cover_seconds": time.perf_counter() - featured,
        }
        network = ReluClassifier(
            weights,
            biases,
            tuple(pack_bits(detector.masks) for detector in found),
            tuple(detector.thresholds for detector in found),
            tuple(detector.offset for detector in found),
            detectors,
            problem.classes,
        )
        return Construction(network, tuple(detector.centres for detector in found), stats)
