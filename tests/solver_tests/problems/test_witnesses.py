"""What a point proves at any depth: as much as float64 says, and never more than rational arithmetic says."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.rationals import norm_at_least
from solvers.files.models import load_network
from solvers.lipschitz.sampling import Sampling
from solvers.networks.relu import ReluNetwork
from solvers.problems import proved_gradients as proved_gradients_module
from solvers.problems import witnesses
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import LinearRegion, pattern_at
from solvers.problems.witnesses import exact_gradient, gradients_at, witness_bound, witness_bounds
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import check_witness
from tests.data_folder import DATA_DIR

SHARED = DATA_DIR.parent


def deep(d: int, width: int, depth: int, seed: int = 0) -> ReluNetwork:
    """He weights, normal biases."""
    rng = np.random.default_rng([d, width, depth, seed])
    sizes = [d, *[width] * depth]
    weights = [rng.standard_normal((n, m)) * math.sqrt(2 / width) for m, n in itertools.pairwise(sizes)]
    biases = [rng.standard_normal(width) for _ in range(depth)]
    return ReluNetwork([*weights, rng.standard_normal((1, width))], [*biases, [0.0]])


def points_in(box: Box, count: int) -> FloatArray:
    return box.draw(count, np.random.default_rng(7))


def by_definition(network: ReluNetwork, point: FloatArray) -> list[Fraction]:
    """The gradient at a point that is on no kink, number by number."""
    values = [Fraction(x) for x in point.tolist()]
    masks = []
    for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        sums = [
            sum((Fraction(a) * v for a, v in zip(row, values, strict=True)), Fraction(c))
            for row, c in zip(w.tolist(), b.tolist(), strict=True)
        ]
        assert 0 not in sums
        masks.append([z > 0 for z in sums])
        values = [max(z, Fraction(0)) for z in sums]
    row = [Fraction(v) for v in network.weights[-1][0].tolist()]
    for w, mask in zip(reversed(network.weights[:-1]), reversed(masks), strict=True):
        kept = [(value, entries) for value, entries, on in zip(row, w.tolist(), mask, strict=True) if on]
        row = [sum((v * Fraction(entries[j]) for v, entries in kept), Fraction(0)) for j in range(w.shape[1])]
    return row


def check_points(network: ReluNetwork, box: Box, count: int, verified: int) -> None:
    """99 of 100 points prove what float64 says of the gradient, and some of them in rational arithmetic."""
    points = points_in(box, count)
    for p in (1.0, 2.0, math.inf):
        problem = LipschitzProblem(network, p, box)
        lengths = vector_norm(gradients_at(network, points), problem.dual_p)
        bounds = witness_bounds(problem, points)
        lower = np.array([bound for bound, _ in bounds])
        assert (lower >= lengths * (1 - 1e-12)).mean() >= 0.99
        for bound, witness in bounds[:verified]:
            found = check_witness(problem, witness, bound)
            assert found.holds, found.reason


@pytest.mark.parametrize(("width", "depth"), [(16, 24), (16, 50), (64, 14), (64, 18)])
def test_deep_networks_have_lower_bounds(width: int, depth: int) -> None:
    check_points(deep(4, width, depth), Box.cube(4), 60, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "depth", "count"), [(64, 50, 200), (256, 10, 100), (256, 50, 20), (1024, 8, 10)])
def test_wide_and_deep_networks_have_lower_bounds(width: int, depth: int, count: int) -> None:
    check_points(deep(10, width, depth), Box.cube(10), count, 1)


@pytest.mark.slow
def test_the_widest_and_deepest_has_one_too() -> None:
    network = deep(10, 1024, 50)
    problem, points = LipschitzProblem(network, 2.0, Box.cube(10)), points_in(Box.cube(10), 2)
    lengths = vector_norm(gradients_at(network, points), 2.0)
    for length, (lower, _) in zip(lengths, witness_bounds(problem, points), strict=True):
        assert length * (1 - 1e-12) <= lower <= length * (1 + 1e-9)


@pytest.mark.parametrize(("width", "depth"), [(6, 24), (6, 40), (12, 20)])
def test_bounds_are_below_the_gradient_by_definition(width: int, depth: int) -> None:
    network = deep(2, width, depth)
    for point in points_in(Box.cube(2), 3):
        exact = by_definition(network, point)
        assert exact_gradient(network, point, pattern_at(network, point)) == exact
        for p in (1.0, 1.001, 1.5, 2.0, 50.0, math.inf):
            problem = LipschitzProblem(network, p, Box.cube(2))
            lower, witness = witness_bound(problem, point)
            if any(exact):
                assert witness is not None
                assert norm_at_least(exact, problem.dual_p, lower)
                assert not norm_at_least(exact, problem.dual_p, lower * (1 + 1e-12))
            else:
                assert (lower, witness) == (0.0, None)


def behind(first: ReluNetwork, depth: int) -> ReluNetwork:
    """The same function followed by layers (relu(v), relu(-v)) -> v with weights whose products cancel in float64 only
    after long sums: f = v for `depth` layers more."""
    pair = np.array([[1.0, -1.0], [-1.0, 1.0]])
    weights = [*first.weights[:-1], np.concatenate([first.weights[-1], -first.weights[-1]])]
    biases = [*first.biases[:-1], np.zeros(2)]
    for _ in range(depth - 1):
        weights.append(pair)
        biases.append(np.zeros(2))
    return ReluNetwork([*weights, np.array([[1.0, -1.0]])], [*biases, np.zeros(1)])


def test_neurons_that_are_zero_around_a_point_add_nothing() -> None:
    """f = 3 relu(x + 1/5) and twice a neuron that cancels: relu(0.1 h - 0.1 h), behind forty layers."""
    w = [[[1.0], [1.0]], [[0.1, -0.1], [1.0, 2.0]], [[7.0, 1.0]]]
    network = behind(ReluNetwork(w, [[0.2, 0.2], [0.0, 0.0], [0.0]]), 40)
    problem = LipschitzProblem(network, 2.0, Box.cube(1))
    for lower, witness in witness_bounds(problem, np.array([[0.3], [0.7], [-0.1]])):
        assert witness is not None
        assert 3.0 * (1 - 1e-12) <= lower <= 3.0
        assert check_witness(problem, witness, lower).holds
    assert witness_bound(problem, np.array([-0.5])) == (0.0, None)


def test_points_on_a_kink_prove_nothing() -> None:
    """f = relu(x - y) behind thirty layers: on x = y the pre-activation is 0 and its slope is not."""
    network = behind(ReluNetwork([[[1.0, -1.0]], [[1.0]]], [[0.0], [0.0]]), 30)
    problem = LipschitzProblem(network, 2.0, Box.cube(2))
    found = witness_bounds(problem, np.array([[0.3, 0.3], [0.3, 0.25], [0.3, 0.3 - 2.0**-54]]))
    assert found[0] == (0.0, None)
    assert found[1][0] == pytest.approx(math.sqrt(2), rel=1e-12)
    assert found[2][0] == pytest.approx(math.sqrt(2), rel=1e-12)


def test_signs_that_float64_gets_wrong_are_put_right() -> None:
    """z = relu(0.1 x) + relu(0.2 x) - relu(0.3 x) with decimal weights: its sign is that of their rounding errors."""
    network = behind(ReluNetwork([[[0.1], [0.2], [0.3]], [[1.0, 1.0, -1.0]], [[1.0]]], [np.zeros(3), [0.0], [0.0]]), 30)
    slope = Fraction(0.1) + Fraction(0.2) - Fraction(0.3)
    assert slope > 0
    problem = LipschitzProblem(network, 2.0, Box.cube(1))
    for point in points_in(Box([0.1], [0.9]), 20):
        lower, witness = witness_bound(problem, point)
        assert witness is not None
        assert Fraction(lower) <= slope <= Fraction(lower) * (1 + Fraction(1, 10**12))


def test_networks_whose_digits_are_made_part_by_part_prove_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network = deep(4, 24, 24)
    points = points_in(Box.cube(4), 5)
    whole = proved_gradients_module.proved_gradients(network, points)
    monkeypatch.setattr(proved_gradients_module, "MOST_KEPT", 0)
    monkeypatch.setattr(proved_gradients_module, "AT_ONCE", 100)
    parts = proved_gradients_module.proved_gradients(network, points)
    for point, one, other in zip(points, whole, parts, strict=True):
        assert one is not None
        assert other is not None
        assert all(np.array_equal(a, b) for a, b in zip(one.pattern, other.pattern, strict=True))
        exact = by_definition(network, point)
        for g, value, error in zip(exact, other.gradient.tolist(), other.errors.tolist(), strict=True):
            assert abs(g - Fraction(value)) <= Fraction(error)


def test_ordinary_networks_keep_the_bits_of_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(network: ReluNetwork, points: FloatArray) -> list[None]:
        raise AssertionError("more digits were asked for")

    monkeypatch.setattr(witnesses, "proved_gradients", refuse)
    for d, width in ((1, 5), (2, 8), (5, 40)):
        network, box = deep(d, width, 1), Box.cube(d)
        for point in points_in(box, 20):
            _, witness = witness_bound(LipschitzProblem(network, 2.0, box), point)
            region = LinearRegion(network, pattern_at(network, point)).gradient()[0]
            if region.any():
                assert witness is not None
                assert witness.gradient.tolist() == region.tolist()


@pytest.mark.skipif(not (SHARED / "nets").is_dir(), reason="the trained networks are not here")
@pytest.mark.parametrize("name", ["tll_16", "tll_24"])
def test_trained_lattice_networks_have_lower_bounds(name: str) -> None:
    check_points(load_network(SHARED / "nets" / f"{name}.npz"), Box([-2.0, -2.0], [2.0, 2.0]), 100, 1)


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the inputs that failed are not here")
@pytest.mark.parametrize("method", ["sampling", "auto"])
def test_a_network_of_eighteen_layers_has_a_lower_bound(method: str) -> None:
    network = load_network(SHARED / "cases" / "soundness" / "deep_n64_l18.npz")
    point = np.load(SHARED / "cases" / "soundness" / "deep_n64_l18_x.npy")
    problem = LipschitzProblem(network, 2.0, Box.cube(10))
    assert witness_bound(problem, point)[0] == pytest.approx(2.21, rel=0.01)
    answer = LIPSCHITZ_SOLVERS[method].solve(problem, budget=Budget(nodes=4000))
    assert answer.lower >= 9.8
    assert check_witness(problem, answer.witness, answer.lower).holds


def test_sampling_answers_for_deep_networks() -> None:
    network = deep(10, 64, 18)
    answer = Sampling(points=50).solve(LipschitzProblem(network, 2.0, Box.cube(10)))
    assert answer.lower > 0.1
