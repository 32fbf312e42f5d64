"""Mutual coverings: against the definition, on classes whose covering is known, and what the checker must refuse."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from solvers.complexity.covering import MutualCovering, Side, allowed_radius, verify_covering
from solvers.complexity.measure import DataComplexity, measure_complexity
from solvers.errors import InputError
from solvers.problems.orbits import translate
from solvers.problems.questions import InterpolationProblem
from tests.strategies import DETERMINISTIC, labelled_clouds


def measured(
    points: np.ndarray,
    labels: np.ndarray,
    constants: tuple[float, ...] = (0.25, 0.5, 1.0),
    shape: tuple[int, int, int] | None = None,
) -> DataComplexity:
    problem = InterpolationProblem(points, labels)
    return measure_complexity(problem, constants=constants, draws=50, rng=np.random.default_rng(0), shape=shape)


def counts(complexity: DataComplexity) -> list[tuple[int, int]]:
    """M- and M+ of every pair of every constant."""
    return [(len(p.covering.minus.centres), len(p.covering.plus.centres)) for row in complexity.pairs for p in row]


def separated_balls(samples: int, dimension: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Balls of radius 1/20 about the vertices +-e_i, one sample in each centre; the class is that of the sign."""
    rng = np.random.default_rng(seed)
    centres = np.concatenate([np.eye(dimension), -np.eye(dimension)])
    which = np.arange(samples) % len(centres)
    steps = rng.standard_normal((samples, dimension))
    steps *= rng.uniform(size=(samples, 1)) ** (1 / dimension) / np.linalg.norm(steps, axis=1, keepdims=True)
    steps[: len(centres)] = 0
    return centres[which] + steps / 20, which // dimension


@DETERMINISTIC
@given(cloud=labelled_clouds())
def test_coverings_satisfy_the_definition(cloud: tuple[np.ndarray, np.ndarray]) -> None:
    points, labels = cloud
    found = measured(points, labels)
    table = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    assert found.separation == pytest.approx(table[labels[:, None] != labels].min())
    assert table[found.separation_rows] == pytest.approx(found.separation)
    assert found.closest == pytest.approx((table + np.diag(np.full(len(points), np.inf))).min())
    for pairs in found.pairs:
        assert len(pairs) == (1 if len(found.classes) == 2 else len(found.classes))
        for pair in pairs:
            verify_covering(pair.covering, points)
            covering = pair.covering
            between = table[np.ix_(covering.minus.centres, covering.plus.centres)]
            np.testing.assert_allclose(covering.to_plus, between.min(axis=1))
            np.testing.assert_allclose(covering.to_minus, between.min(axis=0))
            assert covering.separation >= found.separation * (1 - 1e-12)
            for side in (covering.minus, covering.plus):
                # No ball can be left out: no centre lies in another's.
                apart = table[np.ix_(side.centres, side.centres)] + np.diag(np.full(len(side.centres), np.inf))
                assert (apart > side.radii[:, None]).all()


@pytest.mark.parametrize("dimension", [2, 5, 20])
@pytest.mark.parametrize("samples", [1000, 10_000])
def test_separated_balls_are_counted_whatever_the_number_of_samples(samples: int, dimension: int) -> None:
    points, labels = separated_balls(samples, dimension)
    # The classes are at least sqrt(2) - 1/10 apart, so C = 1/4 allows radii above 1/4: every ball, and no two.
    assert counts(measured(points, labels, constants=(0.25,))) == [(dimension, dimension)]


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "dimension"), [(100_000, 20), (100_000, 5), (1_000_000, 2), (1_000_000, 5)])
def test_separated_balls_are_counted_in_many_samples(samples: int, dimension: int) -> None:
    points, labels = separated_balls(samples, dimension)
    assert counts(measured(points, labels, constants=(0.25,))) == [(dimension, dimension)]


def test_mean_widths_of_separated_balls_are_those_of_balls() -> None:
    points, labels = separated_balls(20_000, 2)
    pair = measured(points, labels, constants=(0.25,)).pairs[0][0]
    covering, omega = pair.covering, pair.omega_minus
    # About c, a disk of radius r and centre o has sup |<g, x - c>| = r ||g|| + |<g, o - c>|.
    off = np.linalg.norm(points[covering.minus.centres] - np.round(points[covering.minus.centres]), axis=1)
    exact = 0.05 * np.sqrt(np.pi / 2) + off * np.sqrt(2 / np.pi)
    error = omega.error / omega.value * omega.mean_width / 2
    assert np.abs(exact - omega.mean_width).min() < 4 * error
    assert 0 < error < omega.mean_width / 5
    # omega is w^2 / d^3 of that component.
    cubes = omega.mean_width**2 / omega.value
    assert np.abs(covering.to_plus**3 - cubes).min() < 1e-9


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**40, 3.0, 1e-5, 1e200, 1e-200])
def test_scaling_changes_no_number_without_a_unit(factor: float) -> None:
    rng = np.random.default_rng(3)
    points, labels = rng.standard_normal((120, 3)), np.arange(120) % 2
    before, after = measured(points, labels), measured(points * factor, labels)
    assert counts(before) == counts(after)
    assert after.separation == pytest.approx(before.separation * factor)
    assert after.radius == pytest.approx(before.radius * factor)
    for one, other in zip(before.pairs, after.pairs, strict=True):
        assert one[0].omega.value * before.radius == pytest.approx(other[0].omega.value * after.radius)
        assert one[0].size().neurons == pytest.approx(other[0].size().neurons)
        assert one[0].size().parameters == pytest.approx(other[0].size().parameters)


def test_a_larger_constant_allows_fewer_centres_on_these_data() -> None:
    rng = np.random.default_rng(4)
    points = rng.standard_normal((400, 2))
    labels = (points[:, 0] > 0).astype(int)
    total = [sum(pair) for pair in counts(measured(points, labels, constants=(0.125, 0.5, 2.0)))]
    assert total[0] > total[1] > total[2] >= 2


def test_repeated_points_count_once_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    points, labels = rng.standard_normal((60, 3)), np.arange(60) % 3
    once = measured(points, labels)
    again = rng.permutation(np.repeat(np.arange(60), 3))
    thrice = measured(points[again], labels[again])
    assert counts(once) == counts(thrice)
    assert (thrice.points, len(thrice.rows)) == (180, 60)
    assert thrice.worst_case == once.worst_case


def test_two_points_a_constant_feature_and_one_sample_of_a_class() -> None:
    two = measured(np.array([[0.0, 1.0], [3.0, 1.0]]), np.array(["a", "b"]), constants=(1.0,))
    assert counts(two) == [(1, 1)]
    assert (two.separation, two.closest) == (3.0, 3.0)
    assert two.pairs[0][0].omega.value == 0.0
    rng = np.random.default_rng(6)
    points = np.c_[rng.standard_normal((50, 2)), np.full(50, 7.0)]
    lonely = measured(points, np.arange(50) == 13)
    for pairs in lonely.pairs:
        verify_covering(pairs[0].covering, points)
        assert len(pairs[0].covering.minus.centres) == 1


def test_sizes_follow_the_formula_both_ways_round() -> None:
    points, labels = separated_balls(500, 3)
    pair = measured(points[: 6 + 3], labels[: 6 + 3], constants=(0.25,)).pairs[0][0]
    covering, omega = pair.covering, pair.omega
    m, p = len(covering.minus.centres), len(covering.plus.centres)
    assert omega.value == max(pair.omega_minus.value, pair.omega_plus.value)
    first = covering.radius * (np.log(2 * m * p) / covering.separation + omega.value)
    for size, second in ((pair.size(), m), (pair.size(swapped=True), p)):
        assert size.first_layer == pytest.approx(first)
        assert size.neurons == pytest.approx(first + second)
        assert size.parameters == pytest.approx(first * (3 + second))


def test_more_classes_share_a_first_layer() -> None:
    rng = np.random.default_rng(7)
    found = measured(rng.standard_normal((90, 2)), np.arange(90) % 3, constants=(0.5,))
    sizes = [pair.size() for pair in found.pairs[0]]
    assert [pair.minus for pair in found.pairs[0]] == [0, 1, 2]
    assert all(pair.plus is None for pair in found.pairs[0])
    network = found.network(0)
    assert network.first_layer == max(size.first_layer for size in sizes)
    assert network.second_layer == sum(size.second_layer for size in sizes)


@pytest.mark.parametrize("shape", [(1, 1, 16), (1, 5, 4), (2, 3, 3)])
def test_orbits_count_patterns_and_points_count_translates(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(9)
    patterns = rng.standard_normal((6, *shape))
    shifts = list(itertools.product(range(shape[1]), range(shape[2])))
    points = np.concatenate([translate(patterns, shift) for shift in shifts]).reshape(6 * len(shifts), -1)
    labels = np.tile(np.arange(6) % 2, len(shifts))
    assert counts(measured(points, labels, (0.25,), shape)) == [(3, 3)]
    assert counts(measured(points, labels, (0.25,))) == [(3 * len(shifts), 3 * len(shifts))]
    noisy = points + 0.01 * rng.standard_normal(points.shape)
    found = measured(noisy, labels, (0.5,), shape)
    assert counts(found) == [(3, 3)]
    assert len(found.rows) == len(points)


def example() -> tuple[MutualCovering, np.ndarray]:
    rng = np.random.default_rng(10)
    points = rng.uniform(-1, 1, (80, 2))
    labels = (points[:, 0] > 0).astype(int)
    points[:, 0] += 0.3 * (2 * labels - 1)
    covering = measured(points, labels, constants=(1.0,)).pairs[0][0].covering
    assert len(covering.minus.components) > 1
    return covering, points


def with_minus(covering: MutualCovering, **changes: object) -> MutualCovering:
    return replace(covering, minus=replace(covering.minus, **changes))  # type: ignore[arg-type]


def test_the_checker_refuses_what_is_no_covering() -> None:
    covering, points = example()
    verify_covering(covering, points)
    minus = covering.minus
    with pytest.raises(ValueError, match="more than"):
        verify_covering(with_minus(covering, radii=minus.radii * 4.0), points)
    with pytest.raises(ValueError, match="in no ball"):
        verify_covering(with_minus(covering, radii=minus.radii * 0.3), points)
    kept = np.arange(len(minus.centres)) != np.argmax(minus.radii)
    with pytest.raises(ValueError, match="in no ball"):
        verify_covering(with_minus(covering, centres=minus.centres[kept], radii=minus.radii[kept]), points)
    foreign = minus.centres.copy()
    foreign[0] = covering.plus.centres[0]
    with pytest.raises(ValueError, match="not of its class"):
        verify_covering(with_minus(covering, centres=foreign), points)
    with pytest.raises(ValueError, match="share a row"):
        verify_covering(replace(covering, plus=minus), points)


def test_the_allowed_radius_grows_with_the_distance() -> None:
    distances = np.geomspace(1e-12, 2.0, 2001)
    assert (np.diff(allowed_radius(distances, 1.0, 0.7)) > 0).all()
    assert allowed_radius(np.array([1.0]), 1.0, 0.7)[0] == pytest.approx(0.7)
    assert allowed_radius(np.array([2.0]), 1.0, 1.0)[0] == pytest.approx(2 / np.sqrt(np.log(np.e / 2)))


def test_what_does_not_fit_is_refused() -> None:
    problem = InterpolationProblem(np.arange(8.0).reshape(4, 2), [0, 0, 1, 1])
    rng = np.random.default_rng(0)
    for constants in ((), (0.0,), (-1.0,), (np.inf,), (np.nan,)):
        with pytest.raises(InputError, match="constant"):
            measure_complexity(problem, constants=constants, draws=10, rng=rng)
    with pytest.raises(InputError, match="draws"):
        measure_complexity(problem, constants=(1.0,), draws=1, rng=rng)
    with pytest.raises(InputError, match="shape"):
        measure_complexity(problem, constants=(1.0,), draws=10, rng=rng, shape=(1, 1, 3))
    close = InterpolationProblem([[0.0], [1e-300], [1.0]], [0, 1, 1])
    with pytest.raises(InputError, match="rows 0 and 1"):
        measure_complexity(close, constants=(1.0,), draws=10, rng=rng)
    many = InterpolationProblem(np.arange(20_000.0)[:, None], np.arange(20_000))
    with pytest.raises(InputError, match="classes"):
        measure_complexity(many, constants=(1.0,), draws=10, rng=rng)
    shifted = InterpolationProblem([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]], [0, 1])
    with pytest.raises(InputError, match="translated"):
        measure_complexity(shifted, constants=(1.0,), draws=10, rng=rng, shape=(1, 1, 3))


def test_progress_is_reported_and_ends() -> None:
    points, labels = separated_balls(300, 12)
    heard: dict[str, list[float]] = {}
    measure_complexity(
        InterpolationProblem(points, labels),
        constants=(0.5, 1.0),
        draws=5,
        rng=np.random.default_rng(0),
        report=lambda stage, share: heard.setdefault(stage, []).append(share),
    )
    assert len(heard) == 4
    for shares in heard.values():
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= shares[-1] <= 1 + 1e-9
    assert heard["covering with constant 1"][-1] == pytest.approx(1.0)


def test_sides_are_ordered_by_radius() -> None:
    covering, _ = example()
    side: Side
    for side in (covering.minus, covering.plus):
        part = side.radii[: len(side.components)]
        assert (np.diff(part) <= 0).all()
        assert set(np.concatenate([*side.components, side.centres]).tolist()) == set(side.rows.tolist())
