"""Data that are unlike data: the right answer, or one clear sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from solvers.errors import InputError
from solvers.interpolation.fully_connected import Activation, FullyConnected
from solvers.problems.interpolants import Interpolant
from solvers.problems.questions import InterpolationProblem
from tests.data_folder import DATA_DIR, needs_mnist
from tests.peak_memory import PEAK_KILOBYTES


def interpolant(
    points: object, labels: object, width: int, bias: float = 1.0, activation: Activation = "threshold"
) -> Interpolant:
    solver = FullyConnected(width, bias, activation=activation)
    return solver.solve(InterpolationProblem(points, labels), rng=np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0]], [0, 1, 1], "rows 0 and 2 are the same point with labels"),
        ([[0.0], [-0.0]], ["a", "b"], "rows 0 and 1 are the same point"),
        ([[0.0, 1.0], [2.0, 3.0]], [1, 1], "at least two classes"),
        ([[0.0, float("nan")], [2.0, 3.0]], [0, 1], "NaN or infinite value at row 0, column 1"),
        ([[0.0, 1.0], [float("-inf"), 3.0]], [0, 1], "NaN or infinite value at row 1, column 0"),
        ([[0.0], [1.0]], [0.0, float("nan")], "labels holds a NaN"),
        (np.zeros((0, 3)), [], "N, d >= 1"),
        (np.zeros((3, 0)), [0, 1, 1], "N, d >= 1"),
        ([[1e305, 1e305], [-1e305, 0.0]], [0, 1], "scale them down"),
    ],
)
def test_no_network_can_fit_or_no_number_can_hold(points: object, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        interpolant(points, labels, 20)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("activation", ["threshold", "relu"])
def test_one_sample_of_each_class(activation: Activation) -> None:
    two = interpolant([[0.3, 0.4], [0.3, -0.4]], ["no", "yes"], 100, activation=activation)
    assert two.interpolates
    assert two.network.second_layer_widths == (1,)
    ten = interpolant(np.eye(10), np.arange(10), 400, activation=activation)
    assert ten.interpolates
    assert ten.network.second_layer_widths == (1,) * 10


@pytest.mark.parametrize("activation", ["threshold", "relu"])
@pytest.mark.parametrize("constant", [0.0, 0.25])
def test_a_constant_feature_does_no_harm(activation: Activation, constant: float) -> None:
    rng = np.random.default_rng(3)
    points = np.concatenate([rng.uniform(-0.5, 0.5, size=(120, 2)), np.full((120, 1), constant)], axis=1)
    labels = np.where(points[:, 0] > 0, "right", "left")
    points[:, 0] += np.where(points[:, 0] > 0, 0.1, -0.1)
    assert interpolant(points, labels, 300, activation=activation).interpolates


def test_features_that_are_all_constant_but_for_one() -> None:
    points = np.zeros((40, 300))
    points[:, 7] = np.linspace(-1, 1, 40)
    found = interpolant(points, np.arange(40) % 2, 4000)
    assert found.interpolates


def test_points_a_rounding_apart_are_never_mixed_up() -> None:
    """No threshold of 50 falls between 1 and the next number: the points are told to be missed, not guessed."""
    points = np.array([[1.0, 1.0], [np.nextafter(1.0, 2.0), 1.0]])
    found = interpolant(points, [0, 1], 50)
    predicted = found.network.predict(points)
    np.testing.assert_array_equal(found.missed, np.flatnonzero(predicted != [0, 1]))
    assert not found.interpolates


@pytest.mark.slow
def test_a_million_points_in_the_plane() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 10**6)
    labels = rng.integers(0, 2, 10**6)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.where(labels, 1.0, 0.5)[:, None]
    found = interpolant(points, labels, 1000)
    assert found.interpolates
    assert found.points == 10**6


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["threshold", "relu"])
def test_few_points_in_fifty_thousand_dimensions(activation: Activation) -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((500, 50_000))
    points /= np.sqrt((points**2).sum(axis=1)).max()
    found = interpolant(points, rng.integers(0, 3, 500), 400, 0.5, activation)
    assert found.interpolates
    # Points that are all at right angles to each other: hardly a ball holds two of a class.
    assert found.network.second_layer_width > 400


MEMORY = f"""
import json, sys
import numpy as np
from solvers.interpolation.fully_connected import FullyConnected
from tasks.data_sets import load_problem
found = FullyConnected(10_000, 1.0).solve(load_problem("mnist", data_dir=sys.argv[1]), rng=np.random.default_rng(0))
peak = 1024 * {PEAK_KILOBYTES}
print(json.dumps([found.interpolates, found.network.second_layer_width, peak]))
"""


@pytest.mark.slow
@needs_mnist
@pytest.mark.timeout(3600)
def test_ten_thousand_features_of_mnist_fit_in_two_gigabytes(root: Path, run: Callable[..., str]) -> None:
    """The features alone take 0.7 GB as bytes and 2.8 GB as float32; in a process of its own, imports included."""
    interpolates, neurons, peak = json.loads(run(root, MEMORY, str(DATA_DIR)))
    assert interpolates
    assert neurons > 1000
    print(f"{neurons} neurons, {peak / 1e9:.2f} GB")
    assert peak < 2e9


@pytest.fixture
def run() -> Callable[..., str]:
    """Runs a script in a process of its own and gives what it prints."""

    def start(folder: Path, script: str, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout

    return start
