"""Ranges by lines carried backward: never narrower than the truth, in rationals; no wider than before; in time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest

from solvers.lipschitz.bounds.pattern_bounds import bound_piece
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.relaxation.chain import Chain, bounds_below, lower_bounds
from solvers.lipschitz.bounds.relaxation.fixed_slopes import fixed_slopes
from solvers.lipschitz.bounds.relaxation.tightened import BoxLayers, Ranges, RowSlopes, _followed, tighten
from solvers.networks.relu import ReluNetwork
from solvers.problems.balance import balance
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem
from tests.references.exact_points import exact_pre_activations, far_points
from tests.references.random_networks import FAMILIES
from tests.strategies import gaussian_network


def forward(network: ReluNetwork, box: Box) -> tuple[BoxLayers, Ranges]:
    """Ranges carried forward alone."""
    whole = bound_piece(PieceArrays.of(solid_piece(LipschitzProblem(network, 2.0, box), box), None))
    places = [(m, slice(n)) for m, n in enumerate(network.widths)]
    low, high = ([part[place] for place in places] for part in (whole.z_low, whole.z_high))
    ranges = Ranges(low, high, [whole.signs[place] for place in places])
    return BoxLayers(network.weights[:-1], network.biases[:-1], box.lower, box.upper), ranges


def copied(ranges: Ranges) -> Ranges:
    low, high = ([part.copy() for part in parts] for parts in (ranges.low, ranges.high))
    return Ranges(low, high, [part.copy() for part in ranges.signs])


def random_slopes(network: ReluNetwork, rng: np.random.Generator) -> Mapping[int, RowSlopes]:
    """For every row any slopes, near 0 and 1 often."""
    found = {}
    for m in range(1, network.depth):
        rows = rng.permutation(2 * network.widths[m])
        neurons = [np.arange(n) for n in network.widths[:m]]
        values = [rng.uniform(-0.5, 1.5, (len(rows), len(part))).clip(0.0, 1.0) for part in neurons]
        found[m] = RowSlopes(m, rows, neurons, values)
    return found


def assert_ranges_hold(network: ReluNetwork, box: Box, ranges: Ranges, rng: np.random.Generator) -> None:
    for point in far_points(network, box, rng, 8):
        for z, low, high, signs in zip(
            exact_pre_activations(network, point), ranges.low, ranges.high, ranges.signs, strict=True
        ):
            for value, least, most, sign in zip(z, low.tolist(), high.tolist(), signs.tolist(), strict=True):
                assert Fraction(least) <= value <= Fraction(most)
                assert value * sign >= 0


@pytest.mark.parametrize("family", FAMILIES)
def test_pre_activations_lie_in_their_ranges(family: str) -> None:
    """Also for dead layers, opposite neurons, and neurons in units from 1e-140 to 1e140."""
    rng = np.random.default_rng(sum(map(ord, family)))
    undecided = 0
    for _ in range(12):
        d = int(rng.integers(1, 5))
        sizes = [d, *rng.integers(2, 7, size=int(rng.integers(2, 4))).tolist(), 1]
        box = Box.ball(rng.standard_normal(d), 10.0 ** rng.uniform(-3, 0.3))
        balanced = balance(LipschitzProblem(FAMILIES[family](sizes, rng), 2.0, box)).problem
        network, domain = balanced.network, balanced.domain
        assert isinstance(domain, Box)
        layers, before = forward(network, domain)
        for steps, warm in ((0, None), (0, random_slopes(network, rng)), (8, None), (3, random_slopes(network, rng))):
            ranges = copied(before)
            tighten(layers, ranges, steps, warm=warm)
            assert_ranges_hold(network, domain, ranges, rng)
            for old, new in ((before.low, ranges.low), (ranges.high, before.high)):
                assert all((a <= b).all() for a, b in zip(old, new, strict=True))
            undecided += sum(int((sign == 0).sum()) for sign in before.signs[:-1])
    assert undecided


@pytest.mark.parametrize("radius", [1e-12, 1e-15])
def test_a_box_of_hardly_any_width(radius: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        network = gaussian_network([3, 6, 6, 6, 1], rng, 0.5)
        # Through a kink of the first layer.
        middle = -network.biases[0][0] * network.weights[0][0] / float(network.weights[0][0] @ network.weights[0][0])
        box = Box.ball(middle, radius)
        layers, ranges = forward(network, box)
        tighten(layers, ranges)
        assert_ranges_hold(network, box, ranges, rng)


def test_a_slope_between_0_and_1_finds_the_truth() -> None:
    """relu(x) - 0.8 x >= 0 on [-1, 1]; the line 0 below relu(x) leads to -0.8, the line 0.8 x to 0."""
    network = ReluNetwork([[[1.0], [-1.0], [1.0]], [[1.0, 0.4, -0.4]], [[1.0]]], [[0.0, 2.0, 2.0], [0.0], [0.0]])
    box = Box.cube(1)
    layers, before = forward(network, box)
    fixed, optimised = copied(before), copied(before)
    tighten(layers, fixed, 0)
    tighten(layers, optimised)
    # The other two neurons: 0.4 (2 - x) - 0.4 (2 + x) = -0.8 x.
    assert fixed.low[1][0] == pytest.approx(-0.8, abs=1e-9)
    assert optimised.low[1][0] == pytest.approx(0.0, abs=0.02)
    assert optimised.high[1][0] == pytest.approx(0.8, abs=1e-9)


def test_decided_neurons_count_as_they_are_told() -> None:
    """At a node of a search: relu(x) - x is 0 where x is told to be active, and -x where it is told to be silent."""
    network = ReluNetwork([[[1.0], [1.0]], [[1.0, -1.0]], [[1.0]]], [[0.0, 1.0], [1.0], [0.0]])
    layers, before = forward(network, Box.cube(1))
    for sign, truth in ((1, (0.0, 0.0)), (-1, (-1.0, 1.0))):
        ranges = copied(before)
        ranges.signs[0][0] = sign
        (ranges.low if sign > 0 else ranges.high)[0][0] = 0.0
        ranges.low[1][0], ranges.high[1][0], ranges.signs[1][0] = -10.0, 10.0, 0
        ranges.signs[0][1], ranges.low[0][1] = 0, -0.5  # undecided, so that there is a line to choose
        tighten(layers, ranges)
        assert ranges.low[1][0] <= truth[0] + 1e-9
        assert truth[1] <= ranges.high[1][0] <= truth[1] + 0.02


def test_ascent_starts_from_a_parent_and_goes_on() -> None:
    """The slopes of one call, given to the next without a step, give the same ranges; with steps no worse ones."""
    network = gaussian_network([4, 12, 12, 12, 1], np.random.default_rng(3), 0.3)
    layers, before = forward(network, Box.cube(4))
    first, again, more = copied(before), copied(before), copied(before)
    used = {part.layer: part for part in tighten(layers, first)}
    assert set(used) == {1, 2}
    tighten(layers, again, 0, warm=used)
    tighten(layers, more, 6, warm=used)
    for a, b, c in zip(first.low, again.low, more.low, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (c >= a - 0.02 * np.abs(a)).all()  # slopes are kept to two digits
    fixed = copied(before)
    tighten(layers, fixed, 0)
    width = [sum(float((b - a).sum()) for a, b in zip(r.low, r.high, strict=True)) for r in (before, fixed, first)]
    assert width[2] < 0.95 * width[1] < width[0]


def test_growth_is_the_derivative() -> None:
    """Where a bound is smooth in the slopes, by differences."""
    rng = np.random.default_rng(4)
    network = gaussian_network([3, 7, 6, 5, 1], rng, 0.3)
    layers, ranges = forward(network, Box.cube(3))
    chain = Chain.of(layers.low, layers.high)
    for m in range(2):
        own = layers.weights[m][:, chain.places]
        chain = _followed(chain, own, layers.biases[m], ranges.low[m], ranges.high[m], ranges.signs[m])
    rows, offsets = layers.weights[2][:, chain.places], layers.biases[2]
    below = [rng.uniform(0.2, 0.8, (len(rows), len(link.free))) for link in chain.links]
    below = [np.where(link.free, part, link.below) for link, part in zip(chain.links, below, strict=True)]
    values, growth = bounds_below(chain, rows, offsets, below)
    proved = lower_bounds(chain, rows, offsets, below)
    assert (proved <= values).all()
    np.testing.assert_allclose(proved, values, rtol=1e-10)
    for k, part in enumerate(growth):
        for j in np.flatnonzero(chain.links[k].free):
            moved = [slopes.copy() for slopes in below]
            moved[k][:, j] += 1e-6
            after, _ = bounds_below(chain, rows, offsets, moved)
            np.testing.assert_allclose((after - values) / 1e-6, part[:, j], atol=1e-4)


def test_numbers_that_overflow_bound_nothing() -> None:
    chain = Chain.of(np.array([-1e300]), np.array([1e300]))
    found = lower_bounds(chain, np.array([[1e300], [1.0], [0.0]]), np.array([0.0, 0.0, 2.0]))
    assert found[0] == -math.inf
    assert -1.01e300 < found[1] <= -1e300
    assert found[2] == pytest.approx(2.0)


def test_without_time_the_ranges_stay() -> None:
    network = gaussian_network([4, 30, 30, 30, 1], np.random.default_rng(5), 0.3)
    layers, before = forward(network, Box.cube(4))
    ranges = copied(before)
    assert tighten(layers, ranges, deadline=Budget(seconds=0.0).start()) == []
    for a, b in zip(before.low, ranges.low, strict=True):
        np.testing.assert_array_equal(a, b)
    problem = LipschitzProblem(network, 2.0, Box.cube(4))
    assert fixed_slopes(problem, Box.cube(4), Budget(seconds=0.0).start()) == (None, None)


def test_slopes_that_fix_nothing_more_are_not_listed() -> None:
    network = gaussian_network([4, 30, 30, 1], np.random.default_rng(6), 0.0)
    box = Box.cube(4)
    found = fixed_slopes(LipschitzProblem(network, 2.0, box), box, Budget().start())
    assert found.listed is None
    assert found.signs is not None
    assert not any(sign.any() for sign in found.signs)
