"""Gaussian mean widths against closed forms, within the stated error; worst-case counts against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaln, ndtr

from solvers.complexity.mean_width import mean_width, widest_possible
from solvers.complexity.worst_case import worst_case_counts
from solvers.errors import InputError

DRAWS = 4000
# Each case fails by luck with probability below 6e-5.
DEVIATIONS = 4.0


def directions(dimension: int, draws: int = DRAWS) -> np.ndarray:
    return np.random.default_rng(dimension).standard_normal((draws, dimension))


@pytest.mark.parametrize("dimension", [1, 3, 50])
def test_a_segment(dimension: int) -> None:
    end = np.arange(1.0, dimension + 1)
    for points in (np.stack([0 * end, end]), np.stack([-end, end]), np.outer(np.linspace(-1, 1, 9), end)):
        found = mean_width(points, directions(dimension))
        exact = float(np.linalg.norm(end)) * math.sqrt(2 / math.pi)
        assert abs(found.value - exact) < DEVIATIONS * found.error
        # |<g, v>| has variance ||v||^2 (1 - 2 / pi).
        assert found.error == pytest.approx(np.linalg.norm(end) * math.sqrt((1 - 2 / math.pi) / DRAWS), rel=0.1)
        assert found.draws == DRAWS


def test_a_disk() -> None:
    angles = np.arange(4000) * (2 * math.pi / 4000)
    points = 0.3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = mean_width(points, directions(2))
    assert abs(found.value - 0.3 * math.sqrt(math.pi / 2)) < DEVIATIONS * found.error


@pytest.mark.parametrize("dimension", [4, 30])
def test_a_ball_is_wide_as_the_longest_of_its_points(dimension: int) -> None:
    draws = directions(dimension, 1500)
    # The points of a sphere in the very directions drawn: the supremum is ||g||, that of the whole ball.
    points = draws / np.linalg.norm(draws, axis=1, keepdims=True)
    found = mean_width(points, draws)
    exact = math.sqrt(2) * math.exp(gammaln((dimension + 1) / 2) - gammaln(dimension / 2))
    assert abs(found.value - exact) < DEVIATIONS * found.error


@pytest.mark.parametrize("count", [1, 2, 10, 200])
def test_orthogonal_points(count: int) -> None:
    found = mean_width(2.0 * np.eye(count), directions(count))
    exact = 2.0 * quad(lambda t: 1 - (2 * ndtr(t) - 1) ** count, 0, 12)[0]
    assert abs(found.value - exact) < DEVIATIONS * found.error


def test_a_set_of_the_origin_alone_has_no_width() -> None:
    found = mean_width(np.zeros((1, 3)), directions(3))
    assert (found.value, found.error) == (0.0, 0.0)


def test_many_points_in_blocks_give_what_one_block_gives() -> None:
    rng = np.random.default_rng(0)
    points, draws = rng.standard_normal((50_000, 3)), directions(3, 300)
    assert mean_width(points, draws).value == pytest.approx(np.abs(points @ draws.T).max(axis=0).mean())


@pytest.mark.parametrize(("points", "dimension"), [(1, 1), (1, 40), (30, 2), (2000, 6), (40, 400)])
def test_the_bound_holds(points: int, dimension: int) -> None:
    rng = np.random.default_rng(points)
    cloud = rng.standard_normal((points, dimension))
    cloud /= np.linalg.norm(cloud, axis=1, keepdims=True)
    found = mean_width(cloud, directions(dimension, 500))
    assert found.value < widest_possible(1.0, points, dimension) + DEVIATIONS * found.error
    assert widest_possible(1.0, 0, dimension) == 0.0


def test_wrong_shapes_are_refused() -> None:
    for points, draws in (((0, 2), (5, 2)), ((3, 2), (1, 2)), ((3, 2), (5, 3)), ((3,), (5, 3))):
        with pytest.raises(InputError, match="shape"):
            mean_width(np.zeros(points), np.zeros(draws))


def test_worst_case_counts_are_those_of_the_formulas() -> None:
    huang, baum, vershynin, rajput = worst_case_counts(1000, 7, 0.5)
    assert (huang.neurons, huang.parameters) == (1000, 9001)
    assert (baum.neurons, baum.parameters) == (143, 143 * 9 + 1)
    assert vershynin.neurons == pytest.approx(math.exp(4) + math.sqrt(1000))
    assert vershynin.parameters == pytest.approx(math.exp(4) * (7 + math.sqrt(1000)) + 1000)
    assert rajput.neurons == pytest.approx(2 + math.sqrt(1000))
    assert rajput.parameters == pytest.approx(14 + 1000)
    assert [row.precise for row in (huang, baum, vershynin, rajput)] == [True, True, False, False]


def test_counts_beyond_float64_keep_their_logarithm() -> None:
    vershynin = worst_case_counts(10, 2, 0.01)[2]
    assert vershynin.neurons == math.inf
    assert vershynin.log10_neurons == pytest.approx(1e4 / math.log(10))
    assert vershynin.log10_parameters == pytest.approx(1e4 / math.log(10) + math.log10(2 + math.sqrt(10)))


@pytest.mark.parametrize("wrong", [(1, 2, 0.5), (5, 0, 0.5), (5, 2, 0.0), (5, 2, math.nan)])
def test_counts_of_nothing_are_refused(wrong: tuple[int, int, float]) -> None:
    with pytest.raises(InputError, match="worst-case"):
        worst_case_counts(*wrong)
