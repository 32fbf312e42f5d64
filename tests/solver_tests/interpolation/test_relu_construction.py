"""The construction with ReLU neurons: by its definition, as an exported network, and with its margin."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from solvers.bits.features import unpack_words
from solvers.errors import InputError
from solvers.files.models import load_network, save_network
from solvers.files.threshold_npz import save_threshold_network
from solvers.interpolation.fully_connected import FullyConnected
from solvers.interpolation.relu_layer import relu_features
from solvers.networks.margins import detector_margins
from solvers.networks.relu_classifier import ReluClassifier
from solvers.problems.questions import InterpolationProblem
from tasks.constructions import ConstructionChoice
from tasks.data_sets import load_problem


def classifier(problem: InterpolationProblem, width: int, seed: int, bias: float = 1.0) -> ReluClassifier:
    solver = FullyConnected(width, bias, activation="relu")
    network = solver.solve(problem, rng=np.random.default_rng(seed)).network
    assert isinstance(network, ReluClassifier)
    return network


@pytest.mark.parametrize("seed", range(4))
def test_neurons_are_those_of_the_algorithm(seed: int) -> None:
    """Algorithm 2 in exact fractions on small whole numbers, from the same draws."""
    problem = load_problem("moons:60")
    built = FullyConnected(30, 1.0, activation="relu").solve(problem, rng=np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    weights, biases = rng.standard_normal((30, 2)), rng.uniform(-1.0, 1.0, 30)
    exact = [
        [max(Fraction(0), sum((Fraction(a) * Fraction(c) for a, c in zip(w, x, strict=True)), Fraction(b)))
         for w, b in zip(weights.tolist(), biases.tolist(), strict=True)]
        for x in problem.points.tolist()
    ]  # fmt: skip
    minus = np.flatnonzero(problem.labels == 1)
    alive, centres, thresholds = set(minus.tolist()), [], []
    for star in minus[rng.permutation(len(minus))].tolist():
        if star not in alive:
            continue
        alive.remove(star)
        u = [value == 0 for value in exact[star]]

        def product(x: int, u: list[bool] = u) -> Fraction:
            return sum((value for value, on in zip(exact[x], u, strict=True) if on), Fraction(0))

        m = min(product(int(x)) for x in np.flatnonzero(problem.labels == 0))
        if m > 0:
            centres.append(star)
            thresholds.append(float(m))
            alive -= {x for x in alive if product(x) < m}
    assert built.centres[0].tolist() == centres
    network = built.network
    assert isinstance(network, ReluClassifier)
    np.testing.assert_allclose(network.thresholds[0], thresholds, rtol=1e-9)
    # Lowered, so that no rounding wakes a neuron at the point that attains m.
    assert all(ours < m for ours, m in zip(network.thresholds[0].tolist(), thresholds, strict=True))
    masks = unpack_words(network.masks[0], 30)
    np.testing.assert_array_equal(masks, [[value == 0 for value in exact[star]] for star in centres])


@pytest.mark.parametrize("name", ["moons:300", "lines:100", "digits"])
def test_the_exported_network_keeps_its_margin_on_every_point(name: str, tmp_path: Path) -> None:
    problem = load_problem(name)
    solver = FullyConnected(300, 0.5, activation="relu")
    answer = solver.solve(problem, rng=np.random.default_rng(1))
    assert answer.interpolates
    found = answer.network
    assert isinstance(found, ReluClassifier)
    assert found.margin > 0
    save_network(found.network(), tmp_path / "net.npz")
    network = load_network(tmp_path / "net.npz")
    assert network.widths == (300, found.second_layer_width)
    assert network.output_dimension == (1 if len(problem.classes) == 2 else len(problem.classes))
    with torch.inference_mode():
        scores = network.to_torch()(torch.tensor(problem.points)).numpy()
    wanted = problem.labels[:, None] == np.array(found.detector_classes)
    np.testing.assert_array_equal(scores > 0, wanted)
    assert (np.abs(scores) >= np.array(found.offsets) * (1 - 1e-9)).all()
    parameters = sum(array.size for array in network.weights) + sum(array.size for array in network.biases)
    # Each second-layer neuron feeds one output only; the exported matrix holds the zeros too.
    assert found.parameters == parameters - found.second_layer_width * (network.output_dimension - 1)


def test_a_rescaled_classifier_takes_the_points_as_they_were() -> None:
    problem = load_problem("moons:200")
    found = classifier(problem, 200, 0)
    large = found.rescaled(7.3)
    np.testing.assert_array_equal(large.predict(7.3 * problem.points), problem.labels)
    points = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_allclose(large.network().evaluate(7.3 * points), found.network().evaluate(points), rtol=1e-9)


def test_points_not_covered_are_missed_and_nothing_is_no_network() -> None:
    problem = InterpolationProblem([[1.0, 0.0], [1.0, 1e-9]], [0, 1])
    answer = FullyConnected(1, 0.0, activation="relu").solve(problem, rng=np.random.default_rng(1))
    found = answer.network
    assert isinstance(found, ReluClassifier)
    assert found.second_layer_width == 0
    assert answer.missed.tolist() == [1]
    with pytest.raises(InputError, match="no second-layer neuron"):
        found.network()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="do not fit in 2 GB"):
        relu_features(np.zeros((2**20, 1)), np.zeros((512, 1)), np.zeros(512))
    with pytest.raises(InputError, match="threshold or relu"):
        FullyConnected(5, 0.5, activation="tanh")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no setting 'activation'"):
        ConstructionChoice("convolutional", {"shape": (1, 8, 8), "activation": "relu"}).interpolator(5, 0.5)


def test_what_is_of_threshold_networks_is_refused_for_relu_ones(tmp_path: Path) -> None:
    problem = load_problem("moons:40")
    network = FullyConnected(30, 1.0, activation="relu").solve(problem, rng=np.random.default_rng(0)).network
    with pytest.raises(InputError, match="kind 'relu' is no threshold network"):
        save_threshold_network(network, tmp_path / "net.npz")
    with pytest.raises(InputError, match="margins are of threshold neurons"):
        detector_margins(network, problem.points)
    assert not list(tmp_path.iterdir())
