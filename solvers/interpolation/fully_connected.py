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
    feature_blocks,
    informative_order,
    pack_bits,
    unpack_words,
    valid_bits,
)
from solvers.bits.instructions import LANES
from solvers.errors import InputError
from solvers.interpolation._base import AbstractInterpolator, Construction, check_first_layer, detected_classes
from solvers.interpolation.class_cover import Centres, ClassTask, Deal, Masks, check_centres, cover_task
from solvers.interpolation.relu_layer import choose_with_relu, cover_with_relu, relu_features
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
            `cover_task` gives for each.
        centres: in random order as in the theorem, greedily the one that covers most, or as few as a program finds.
        masks: of threshold neurons that greedy or minimal centres make: a point's, or that of a cluster around it.
        seconds: for the programs of all classes of minimal centres; where they suffice the network is the same on
            every machine.
    Source: [DFG24, Algorithm 2].
    """

    width: int
    max_bias: float
    minus: object = None
    device: str = "cpu"
    threads: int | None = None
    activation: Activation = "threshold"
    deal: Deal | None = None
    centres: Centres = "random"
    masks: Masks = "point"
    seconds: float = 60.0
    name: ClassVar[str] = "fully-connected"
    summary: ClassVar[str] = "random first layer, second layer by covering one class after the other"
    options: ClassVar[tuple[str, ...]] = ("activation", "centres", "masks")

    def __post_init__(self) -> None:
        check_first_layer(self.width, self.max_bias)
        if self.threads is not None and self.threads < 1:
            raise InputError(f"a construction needs at least one thread, got {self.threads}")
        if self.activation not in get_args(Activation):
            raise InputError(f"the activation must be {' or '.join(get_args(Activation))}, got {self.activation!r}")
        check_centres(self.centres, self.masks)
        if self.masks == "cluster" and self.activation == "relu":
            raise InputError("cluster masks are for threshold neurons: ReLU neurons take point masks")

    @property
    def drawn_for(self) -> tuple[object, ...]:
        """The activation and the choice of centres ask another question of the same draws."""
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
                self.centres,
                self.masks,
                self.seconds / len(detectors),
            )
            for k in detectors
        ]
        if self.deal is not None:
            covered = self.deal(blocks, valid_bits(n), tasks)
        else:
            # Classes are independent; a lone one shares its passes instead, and programs are solved one by one.
            at_once = 1 if len(tasks) == 1 or self.centres == "minimal" else threads
            within = threads if at_once == 1 else 1
            covered = spread(lambda task: cover_task(blocks, valid_bits(n), task, within), tasks, at_once)
        masks, centres = [], []
        for found in covered:
            bits = np.empty((len(found.places), n), dtype=np.bool_)
            bits[:, features] = unpack_words(found.masks, n)
            masks.append(pack_bits(bits))
            centres.append(rows[found.places])
        thresholds = [found.thresholds for found in covered]
        stats = {
            "candidates": float(sum(found.tried for found in covered)),
            "feature_seconds": featured - started,
            "cover_seconds": time.perf_counter() - featured,
        }
        network = ThresholdNetwork(weights, biases, tuple(masks), tuple(thresholds), detectors, problem.classes)
        at_least = sum(found.at_least for found in covered) if self.centres == "minimal" else None
        return Construction(network, tuple(centres), stats, at_least)

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
            sides = np.flatnonzero(mine), np.flatnonzero(~mine)
            if self.centres == "random":
                found.append(cover_with_relu(features, slack, *sides, order))
            else:
                seconds = self.seconds / len(detectors)
                found.append(choose_with_relu(features, slack, *sides, self.centres == "minimal", seconds))
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
        at_least = sum(detector.at_least for detector in found) if self.centres == "minimal" else None
        return Construction(network, tuple(detector.centres for detector in found), stats, at_least)
