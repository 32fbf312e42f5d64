"""The construction against the textbook one, in one run: the same network, second layers alone and end to end.

Reference: features in float32, then one dense float32 matrix-vector product per candidate, as a scientist would write
[DFG24, Algorithm 2], then dense products for the evaluation. Both sides may use every core.

On MNIST the textbook loop takes many minutes, so it is run on the first candidates of a class only: they must give the
first neurons of ours, and their mean time for the minimum over the other classes stands for each further candidate.
Dropping what a neuron covers is not counted, and the evaluation is timed on a tenth of the points: both make the
reference quicker than it is.

What bounds ours: a vector of 8 words takes one load, one AND and one population count, so the bits that a full pass
over the other classes reads, at one vector a cycle and core, are printed beside the time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from solvers.bits.features import unpack_words
from solvers.interpolation.fully_connected import FullyConnected
from solvers.networks.threshold import ThresholdNetwork
from solvers.problems.questions import InterpolationProblem
from tasks.data_sets import load_problem
from tests.data_folder import DATA_DIR, needs_mnist

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
CORES = len(os.sched_getaffinity(0))
ROWS = 2**12
# Far more than what float32 may be off by, ||x|| being at most 1.
NEAR = 1e-3


@pytest.fixture(autouse=True)
def all_cores() -> Iterator[None]:
    with threadpool_limits(CORES):
        yield


def timed_features(points: np.ndarray, weights: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, float]:
    """0/1 features from float32 products, and their seconds; bits near a sign change are then set by float64."""
    single = [array.astype(np.float32) for array in (points, weights.T, biases)]
    features = np.empty((len(points), len(biases)), dtype=np.float32)
    seconds = 0.0
    for k in range(0, len(points), ROWS):
        start = time.perf_counter()
        values = single[0][k : k + ROWS] @ single[1] + single[2]
        features[k : k + ROWS] = values > 0
        seconds += time.perf_counter() - start
        rows, columns = np.nonzero(np.abs(values) < NEAR)
        for part in range(0, len(rows), ROWS):
            i, j = k + rows[part : part + ROWS], columns[part : part + ROWS]
            features[i, j] = np.einsum("ij,ij->i", points[i], weights[j]) + biases[j] > 0
    return features, seconds


def textbook(
    minus: np.ndarray, plus: np.ndarray, order: np.ndarray, most: int
) -> tuple[list[int], list[int], int, float, float]:
    """The loop over the first `most` candidates: centres, thresholds, candidates, seconds of minima and of all."""
    alive = np.ones(len(minus), dtype=bool)
    centres, thresholds, tried, minima = [], [], 0, 0.0
    begun = time.perf_counter()
    for star in order.tolist():
        if not alive[star]:
            continue
        if tried == most:
            break
        tried += 1
        alive[star] = False
        start = time.perf_counter()
        u = 1 - minus[star]
        m = (plus @ u).min()
        minima += time.perf_counter() - start
        if m > 0:
            centres.append(star)
            thresholds.append(int(m))
            alive[alive] = minus[alive] @ u >= m
    return centres, thresholds, tried, minima, time.perf_counter() - begun


@dataclass(frozen=True)
class Built:
    """An interpolant whose network is known to be fully connected."""

    network: ThresholdNetwork
    centres: tuple[np.ndarray, ...]
    stats: Mapping[str, float]


def ours(problem: InterpolationProblem, width: int, minus: object = None) -> tuple[Built, dict[str, float]]:
    solver = FullyConnected(width, 1.0, minus, threads=CORES)
    FullyConnected(width, 1.0, threads=CORES).solve(load_problem("moons:20000"), rng=np.random.default_rng(0))
    answer = solver.solve(problem, rng=np.random.default_rng(0))
    assert isinstance(answer.network, ThresholdNetwork)
    return Built(answer.network, answer.centres, answer.stats), dict(answer.stats)


def drawn(problem: InterpolationProblem, width: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """The generator after the first layer, W and b, as the construction draws them."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((width, problem.points.shape[1]))
    return rng, weights, rng.uniform(-1.0, 1.0, width)


def report(
    name: str,
    record_property: Callable[[str, object], None],
    theirs: dict[str, float],
    stats: dict[str, float],
    bound: float,
) -> None:
    layers = theirs["layers"] / stats["cover_seconds"]
    whole = sum(theirs.values()) / stats["wall_seconds"]
    record_property("second_layers", layers)
    record_property("end_to_end", whole)
    parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in theirs.items())
    print(
        f"\n{name}: textbook {parts}; ours features {stats['feature_seconds']:.2f} s, second layers "
        f"{stats['cover_seconds']:.2f} s (counting every bit of every pass: {bound:.3f} s), evaluation "
        f"{stats['evaluation_seconds']:.2f} s; {layers:.0f} times for second layers, {whole:.0f} times end to end"
    )


def counting_bound(candidates: float, others: int, width: int) -> float:
    """Seconds to count every bit of every pass: 512 of them a cycle and core, at 2.8 GHz."""
    return candidates * others * width / 512 / 2.8e9 / CORES


def mnist_layers(
    problem: InterpolationProblem,
    answer: Built,
    width: int,
    prefix: int,
    features: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Seconds of the textbook loop over all second layers, from a prefix of each; seconds counting bits would take."""
    network, seconds, bound, candidates = answer.network, 0.0, 0.0, 0
    for position, k in enumerate(network.detector_classes):
        own = np.flatnonzero(problem.labels == k)
        order = rng.permutation(len(own))
        minus, plus = features[own], features[problem.labels != k]
        centres, thresholds, tried, minima, _ = textbook(minus, plus, order, prefix)
        assert own[centres].tolist() == answer.centres[position][: len(centres)].tolist()
        assert thresholds == network.thresholds[position][: len(centres)].tolist()
        rows = unpack_words(network.masks[position][: len(centres)], width)
        np.testing.assert_array_equal(rows, minus[centres] == 0)
        # Every candidate is a neuron or has m = 0; only neurons are counted here.
        candidates += len(network.thresholds[position])
        seconds += minima / tried * len(network.thresholds[position])
        bound += counting_bound(len(network.thresholds[position]), len(plus), width)
    assert candidates <= answer.stats["candidates"]
    return seconds, bound


def dense_evaluation(features: np.ndarray, masks: np.ndarray) -> float:
    """Seconds of the second layer's products for all points, from a tenth of them."""
    part = features[::10]
    start = time.perf_counter()
    for k in range(0, len(part), 1024):
        part[k : k + 1024] @ masks
    return 10 * (time.perf_counter() - start)


@needs_mnist
def test_ten_digits(record_property):
    problem, width = load_problem("mnist", data_dir=str(DATA_DIR)), 1000
    answer, stats = ours(problem, width)
    rng, weights, biases = drawn(problem, width)
    np.testing.assert_array_equal(weights, answer.network.weights)
    features, feature_seconds = timed_features(problem.points, weights, biases)
    layers, bound = mnist_layers(problem, answer, width, 20, features, rng)
    masks = np.concatenate([unpack_words(mask, width) for mask in answer.network.masks]).astype(np.float32).T
    evaluation = feature_seconds + dense_evaluation(features, masks)
    theirs = {"features": feature_seconds, "layers": layers, "evaluation": evaluation}
    report("MNIST, ten classes, n = 1000", record_property, theirs, stats, bound)
    assert layers / stats["cover_seconds"] >= 60
    assert sum(theirs.values()) / stats["wall_seconds"] >= 20


@needs_mnist
def test_one_digit_with_ten_thousand_features(record_property):
    whole, width = load_problem("mnist", data_dir=str(DATA_DIR)), 10_000
    problem = InterpolationProblem(whole.points, whole.labels == 3)
    answer, stats = ours(problem, width, minus=True)
    rng, weights, biases = drawn(problem, width)
    np.testing.assert_array_equal(weights, answer.network.weights)
    features, feature_seconds = timed_features(problem.points, weights, biases)
    layers, bound = mnist_layers(problem, answer, width, 10, features, rng)
    theirs = {"features": feature_seconds, "layers": layers, "evaluation": feature_seconds}
    report("MNIST, one digit, n = 10 000", record_property, theirs, stats, bound)
    assert layers / stats["cover_seconds"] >= 60


def test_a_million_moons(record_property):
    problem, width = load_problem("moons:1000000"), 2000
    answer, stats = ours(problem, width)
    rng, weights, biases = drawn(problem, width)
    np.testing.assert_array_equal(weights, answer.network.weights)
    own = np.flatnonzero(problem.labels == 1)
    order = rng.permutation(len(own))
    minus, first_seconds = timed_features(problem.points[own], weights, biases)
    plus, second_seconds = timed_features(problem.points[problem.labels == 0], weights, biases)
    centres, thresholds, tried, _, seconds = textbook(minus, plus, order, len(own))
    assert own[centres].tolist() == answer.centres[0].tolist()
    assert thresholds == answer.network.thresholds[0].tolist()
    assert tried == answer.stats["candidates"]
    masks = unpack_words(answer.network.masks[0], width).astype(np.float32).T
    np.testing.assert_array_equal(masks.T, 1 - minus[centres])
    start = time.perf_counter()
    for part in (minus, plus):
        for k in range(0, len(part), ROWS):
            part[k : k + ROWS] @ masks
    feature_seconds = first_seconds + second_seconds
    evaluation = feature_seconds + time.perf_counter() - start
    theirs = {"features": feature_seconds, "layers": seconds, "evaluation": evaluation}
    bound = counting_bound(tried, len(plus), width)
    report("A million moons, n = 2000", record_property, theirs, stats, bound)
    assert sum(theirs.values()) / stats["wall_seconds"] >= 10
