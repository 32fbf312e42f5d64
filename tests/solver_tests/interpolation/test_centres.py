"""Greedy and minimal centres, masks of points and clusters: by definition, on every point, and against random order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvers.bits.features import unpack_words
from solvers.errors import InputError
from solvers.interpolation.class_cover import Centres, Masks
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import FullyConnected
from solvers.networks.threshold import ThresholdNetwork
from solvers.problems.interpolants import Interpolant
from solvers.problems.questions import InterpolationProblem
from tasks.constructions import ConstructionChoice, compute_restart, restart_interpolant
from tasks.data_sets import load_problem
from tests.solver_tests.interpolation.test_set_cover import by_hand

WAYS: list[tuple[Centres, Masks]] = [
    ("greedy", "point"),
    ("greedy", "cluster"),
    ("minimal", "point"),
    ("minimal", "cluster"),
]


def cloud(seed: int) -> InterpolationProblem:
    """Two to four classes of a few hundred points in boxes that overlap."""
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(2, 5)), int(rng.integers(20, 300))
    labels = np.r_[np.arange(classes), rng.integers(0, classes, count)]
    points = rng.uniform(-1, 1, (len(labels), 3)) + 0.5 * labels[:, None]
    return InterpolationProblem(points / np.linalg.norm(points, axis=1).max(), labels)


def built(problem: InterpolationProblem, solver: FullyConnected | Convolutional, seed: int = 0) -> Interpolant:
    return solver.solve(problem, rng=np.random.default_rng(seed))


def features(network: ThresholdNetwork, problem: InterpolationProblem) -> np.ndarray:
    return (problem.points @ network.weights.T + network.biases > 0).astype(np.int64)


def layers(answer: Interpolant, problem: InterpolationProblem) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per detector which points its neurons fire on (M, N), which points are its own, and its masks."""
    network = answer.network
    assert isinstance(network, ThresholdNetwork)
    bits, found = features(network, problem), []
    for k, masks, thresholds in zip(network.detector_classes, network.masks, network.thresholds, strict=True):
        u = unpack_words(masks, network.first_layer_width).astype(np.int64)
        found.append((u @ bits.T < thresholds[:, None], problem.labels == k, u))
    return found


def coverable(network: ThresholdNetwork, problem: InterpolationProblem, own: np.ndarray) -> np.ndarray:
    """Rows of the class's points: which points of the class the neuron of each one covers."""
    bits = features(network, problem)
    products = (1 - bits[own]) @ bits.T
    return products[:, own] < products[:, ~own].min(axis=1)[:, None]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("centres", "masks"), WAYS)
def test_neurons_cover_what_can_be_covered_and_are_silent_elsewhere(
    seed: int, centres: Centres, masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = cloud(seed)
    solver = FullyConnected(60, 1.0, centres=centres, masks=masks)
    whole = built(problem, solver)
    # A few points at a time: other neurons, the same points.
    monkeypatch.setattr("solvers.interpolation.class_cover.COVERAGE_BYTES", 0)
    for answer in (whole, built(problem, solver)):
        for fires, own, _ in layers(answer, problem):
            assert isinstance(answer.network, ThresholdNetwork)
            assert not fires[:, ~own].any()
            np.testing.assert_array_equal(
                fires[:, own].any(axis=0), coverable(answer.network, problem, own).any(axis=0)
            )
            counts = fires.sum(axis=0)
            assert (fires & (counts == 1)).any(axis=1).all()  # no neuron is needless


@pytest.mark.parametrize("seed", range(6))
def test_greedy_centres_are_those_of_the_definition(seed: int) -> None:
    problem = cloud(seed)
    answer = built(problem, FullyConnected(60, 1.0, centres="greedy"))
    assert isinstance(answer.network, ThresholdNetwork)
    for (_, own, _), centres in zip(layers(answer, problem), answer.centres, strict=True):
        rows = coverable(answer.network, problem, own)
        chosen = by_hand(rows)
        counts = rows[chosen].sum(axis=0)
        needed = []
        for k in reversed(chosen):
            if (counts[rows[k]] >= 2).all():
                counts = counts - rows[k]
            else:
                needed.append(k)
        assert centres.tolist() == np.flatnonzero(own)[needed[::-1]].tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("centres", "masks"), WAYS)
def test_threads_change_nothing(seed: int, centres: Centres, masks: Masks) -> None:
    problem = cloud(seed)
    one, many = (
        built(problem, FullyConnected(80, 1.0, centres=centres, masks=masks, threads=threads)) for threads in (1, 3)
    )
    for ours, theirs in zip(layers(one, problem), layers(many, problem), strict=True):
        np.testing.assert_array_equal(ours[2], theirs[2])


@pytest.mark.parametrize("seed", range(4))
def test_clusters_hold_the_points_that_they_were_made_for(seed: int) -> None:
    """A point's neuron has product 0 at the point itself; so has a cluster's, and it has fewer features."""
    problem = cloud(seed)
    points, clusters = (
        built(problem, FullyConnected(60, 1.0, centres="greedy", masks=m)) for m in ("point", "cluster")
    )
    assert clusters.network.second_layer_width < points.network.second_layer_width
    network = clusters.network
    assert isinstance(network, ThresholdNetwork)
    bits = features(network, problem)
    for (_, _, u), centres in zip(layers(clusters, problem), clusters.centres, strict=True):
        own = 1 - bits[centres]
        assert (u <= own).all()


@pytest.mark.parametrize(("data", "width", "share"), [("digits", 400, 0.65), ("moons:1000", 200, 0.8)])
def test_fewer_neurons_than_in_random_order_from_the_same_first_layer(data: str, width: int, share: float) -> None:
    problem = load_problem(data)
    sizes: dict[tuple[str, str], list[int]] = {}
    for seed in range(5):
        random = built(problem, FullyConnected(width, 0.5), seed)
        sizes.setdefault(("random", "point"), []).append(random.network.second_layer_width)
        for centres, masks in (("greedy", "point"), ("minimal", "point"), ("greedy", "cluster")):
            answer = built(problem, FullyConnected(width, 0.5, centres=centres, masks=masks), seed)  # type: ignore[arg-type]
            np.testing.assert_array_equal(answer.network.weights, random.network.weights)
            assert answer.interpolates >= random.interpolates
            sizes.setdefault((centres, masks), []).append(answer.network.second_layer_width)
            if centres == "minimal":
                assert answer.at_least is not None
                assert 0.92 * answer.network.second_layer_width <= answer.at_least <= answer.network.second_layer_width
            else:
                assert answer.at_least is None
    ratios = {way: np.array(found) / sizes["random", "point"] for way, found in sizes.items()}
    assert np.median(ratios["greedy", "point"]) <= share
    assert (ratios["minimal", "point"] <= ratios["greedy", "point"]).all()
    assert np.median(ratios["greedy", "cluster"]) <= 0.6


@pytest.mark.parametrize("centres", ["greedy", "minimal"])
def test_relu_neurons_too(centres: Centres) -> None:
    problem = load_problem("moons:200")
    random = built(problem, FullyConnected(100, 0.5, activation="relu"))
    answer = built(problem, FullyConnected(100, 0.5, activation="relu", centres=centres))
    assert random.interpolates
    assert answer.interpolates
    assert answer.network.second_layer_width <= random.network.second_layer_width
    if centres == "minimal":
        assert answer.at_least == answer.network.second_layer_width


@pytest.mark.parametrize("method", ["popcount", "fourier"])
@pytest.mark.parametrize("centres", ["greedy", "minimal"])
def test_orbits_are_covered_by_fewer_filters(centres: Centres, method: str) -> None:
    whole = load_problem("digits")
    problem = InterpolationProblem(whole.points[:300], whole.labels[:300])
    random = Convolutional(30, 0.5, (1, 8, 8), 3, method=method)  # type: ignore[arg-type]
    theirs, ours = built(problem, random), built(problem, replace(random, centres=centres))
    assert theirs.interpolates
    assert ours.interpolates
    assert ours.network.second_layer_width < theirs.network.second_layer_width
    shifted = np.roll(problem.points.reshape(-1, 8, 8), (3, 5), axis=(1, 2)).reshape(-1, 64)
    np.testing.assert_array_equal(ours.network.predict(shifted), problem.labels)
    if centres == "minimal":
        assert ours.at_least is not None
        assert ours.at_least <= ours.network.second_layer_width


def test_a_search_tries_greedy_centres_and_keeps_minimal_ones() -> None:
    from solvers.interpolation.width_search import Restart

    problem, source, restart = load_problem("moons:300"), ("moons:300", 0), Restart(60, 0.5, "certify", 0)
    greedy, minimal = (ConstructionChoice(options={"centres": centres}) for centres in ("greedy", "minimal"))
    outcome = compute_restart(problem, minimal, restart, source)
    tried, kept = (restart_interpolant(problem, choice, restart, source) for choice in (greedy, minimal))
    assert (outcome.interpolates, outcome.parameters) == (tried.interpolates, tried.network.parameters)
    assert kept.interpolates == tried.interpolates
    assert kept.network.second_layer_width <= tried.network.second_layer_width
    assert kept.at_least is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"centres": "best"}, "random, greedy or minimal, got 'best'"),
        ({"centres": "greedy", "masks": "ball"}, "point or cluster, got 'ball'"),
        ({"masks": "cluster"}, "around greedy or minimal centres"),
        ({"centres": "greedy", "masks": "cluster", "activation": "relu"}, "take point masks"),
    ],
)
def test_settings_that_fit_nothing_are_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FullyConnected(10, 1.0, **settings)  # type: ignore[arg-type]
