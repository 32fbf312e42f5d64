"""What the pictures of a network show is what the network does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from solvers.bits.features import unpack_words
from solvers.errors import InputError
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import FullyConnected
from solvers.problems.questions import InterpolationProblem
from tasks.data_sets import load_problem
from tasks.figures import pictures as interpolation_pictures
from tasks.figures.pictures import interpolation_figure, picture_shape


def counts(network: Any, points: np.ndarray) -> np.ndarray:
    """<u, Phi(x)> of every second-layer neuron (N, M), by definition."""
    features = (points @ network.weights.T + network.biases > 0).astype(int)
    masks = np.concatenate([unpack_words(mask, len(network.biases)) for mask in network.masks])
    return np.asarray(features @ masks.T.astype(int))


def clouds(classes: int = 3) -> InterpolationProblem:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % classes
    middles = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    return InterpolationProblem(middles[labels] + 0.4 * rng.standard_normal((90, 2)), np.array(["a", "b", "c"])[labels])


@pytest.mark.parametrize(("classes", "width"), [(2, 60), (3, 60), (3, 2)])
def test_regions_are_those_of_the_network(monkeypatch: pytest.MonkeyPatch, classes: int, width: int) -> None:
    monkeypatch.setattr(interpolation_pictures, "RASTER", 60)
    problem = clouds(classes)
    answer = FullyConnected(width, 3.0).solve(problem, rng=np.random.default_rng(1))
    network: Any = answer.network
    figure = interpolation_figure(network, problem, answer.centres, None)
    left, right = figure.axes[:2]
    drawn = np.asarray(left.images[0].get_array())
    x0, x1, y0, y1 = left.images[0].get_extent()
    raster = np.stack(np.meshgrid(np.linspace(x0, x1, 60), np.linspace(y0, y1, 60)), axis=-1).reshape(-1, 2)
    assert (problem.points > [x0, y0]).all()
    assert (problem.points < [x1, y1]).all()
    assert (drawn.ravel() == network.predict(raster) + 1).all()
    neurons, legend = network.second_layer_width, [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"{neurons} neuron" in left.get_title()
    assert ("no answer" in legend) == bool((network.predict(raster) < 0).any())
    assert any("missed" in text for text in legend) == (not answer.interpolates)
    assert [f"class {label}" in legend for label in problem.classes] == [True] * classes
    if width == 60:
        assert answer.interpolates
        found = np.asarray(right.images[0].get_array()).ravel()
        thresholds = np.concatenate(network.thresholds)
        widest = (counts(network, problem.points) < thresholds).sum(axis=0).argmax()
        assert (found == counts(network, raster)[:, widest]).all()
        assert f"m = {thresholds[widest]}" in right.get_title()


def test_many_points_and_neurons_are_thinned_out_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpolation_pictures, "RASTER", 20)
    monkeypatch.setattr(interpolation_pictures, "MOST_POINTS", 40)
    monkeypatch.setattr(interpolation_pictures, "MOST_OUTLINED", 1)
    problem = clouds()
    answer = FullyConnected(60, 3.0).solve(problem, rng=np.random.default_rng(1))
    figure = interpolation_figure(answer.network, problem, answer.centres, None)
    assert "not outlined" in figure.axes[0].get_title()
    assert "class a (one of 3 points)" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(figure.axes[0].lines[0].get_xdata()) == 10  # type: ignore[arg-type]


def test_a_contact_sheet_holds_the_centres_and_what_they_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpolation_pictures, "MOST_CENTRES", 3)
    digits = load_problem("digits")
    problem = InterpolationProblem(digits.points[:300], digits.labels[:300])
    answer = FullyConnected(250, 0.5).solve(problem, rng=np.random.default_rng(2))
    network: Any = answer.network
    figure = interpolation_figure(network, problem, answer.centres, (1, 8, 8))
    thresholds, first = np.concatenate(network.thresholds), 0
    for k, rows in enumerate(answer.centres):
        line = figure.axes[3 * k : 3 * k + 3]
        assert line[0].get_ylabel().startswith(f"class {k}\n{len(rows)} neuron")
        own = problem.points[problem.labels == k]
        for j, panel in enumerate(line):
            assert bool(panel.images) == (j < len(rows))
            if j < len(rows):
                assert (np.asarray(panel.images[0].get_array()) == problem.points[rows[j]].reshape(8, 8)).all()
                share = (counts(network, own)[:, first + j] < thresholds[first + j]).mean()
                assert float(panel.get_xlabel().removesuffix(" %")) == pytest.approx(100 * share, abs=0.5)
        first += len(rows)
    assert figure.get_suptitle().startswith("Centres of the second-layer neurons (the first 3 of each)")


@pytest.mark.parametrize("shape", [(1, 1, 12), (3, 2, 2), (1, 3, 4)])
def test_signals_and_colours(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    problem = InterpolationProblem(rng.standard_normal((8, 12)) / 4, np.arange(8) % 2)
    answer = Convolutional(40, 0.5, shape).solve(problem, rng=rng)
    figure = interpolation_figure(answer.network, problem, answer.centres, shape)
    panel, point = figure.axes[0], problem.points[answer.centres[0][0]].reshape(shape)
    if shape[1] == 1:
        assert np.asarray(panel.lines[0].get_ydata()).tolist() == point[0, 0].tolist()
    elif shape[0] == 3:
        shown = np.asarray(panel.images[0].get_array())
        low, high = problem.points.min(), problem.points.max()
        np.testing.assert_allclose(shown * (high - low) + low, point.transpose(1, 2, 0), atol=1e-12)
    else:
        assert (np.asarray(panel.images[0].get_array()) == point[0]).all()


@pytest.mark.parametrize(
    ("dimension", "shape", "found"),
    [(2, None, None), (2, (1, 1, 2), None), (64, None, (1, 8, 8)), (784, None, (1, 28, 28)), (6, (1, 1, 6), (1, 1, 6))],
)
def test_how_points_are_drawn(dimension: int, shape: Any, found: Any) -> None:
    assert picture_shape(dimension, shape) == found


@pytest.mark.parametrize(
    ("dimension", "shape", "said"),
    [
        (3, None, "d = 3"),
        (4, None, "d = 4"),
        (65, None, "--shape"),
        (8, (2, 2, 2), "1 or 3 channels"),
        (9, (1, 2, 4), "holds 8 numbers"),
    ],
)
def test_what_makes_no_picture_is_said(dimension: int, shape: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        picture_shape(dimension, shape)
