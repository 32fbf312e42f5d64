"""Upper bounds on boxes: never below the exact constant, never above the interval Jacobian, for every p."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from solvers.arithmetic.norms import dual_exponent, vector_norm
from solvers.lipschitz.bounds.pattern_bounds import bound_piece
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.relaxation.jacobians import longest_gradient
from solvers.lipschitz.propagation import Propagation
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.references.exact_methods import solved
from tests.references.exact_points import interval_jacobian
from tests.references.lp_enumeration import lipschitz_by_lp
from tests.strategies import DETERMINISTIC, boxes, exponents, gaussian_network, relu_networks

P_VALUES = (1.0, 1.25, 1.5, 2.0, 3.0, 8.0, math.inf)
METHODS = (Semidefinite(), Propagation())
REGIONS = LIPSCHITZ_SOLVERS["region-enumeration"]


def random_case(rng: np.random.Generator) -> tuple[ReluNetwork, Box]:
    """A network of two to four hidden layers, and a box on which neurons are decided in part."""
    d, depth = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    widths = rng.integers(2, 8 if depth < 3 else 6, size=depth).tolist()
    network = gaussian_network([d, *widths, 1], rng, float(rng.choice([0.3, 1.0])))
    return network, Box.ball(rng.standard_normal(d), 10.0 ** rng.uniform(-2, 0.3))


def forward_signs(network: ReluNetwork, box: Box) -> list[np.ndarray]:
    """What ranges carried forward decide."""
    piece = solid_piece(LipschitzProblem(network, 2.0, box), box)
    signs = bound_piece(PieceArrays.of(piece, None)).signs
    return [row[:n] for row, n in zip(signs, network.widths, strict=True)]


def assert_between(network: ReluNetwork, box: Box) -> None:
    exact = solved(REGIONS, network, box, exponents=P_VALUES)
    reach = interval_jacobian(network.weights, forward_signs(network, box))
    # Proved bounds count rounding over all paths.
    paths = float(interval_jacobian(network.weights, [np.zeros(n) for n in network.widths]).sum())
    for p, answer in exact.items():
        told = f"p = {p}, {[w.tolist() for w in network.weights]}, {box.describe()}"
        for method in METHODS:
            upper = method.solve(LipschitzProblem(network, p, box)).upper
            # Every lower bound is the length of a gradient that is attained, proved in exact arithmetic.
            assert upper >= answer.lower, (method.name, told)
            if method.name == "propagation":
                assert upper <= float(vector_norm(reach, dual_exponent(p))) + 1e-12 * paths, told


def test_twenty_networks_are_bounded_soundly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert_between(*random_case(rng))


@pytest.mark.slow
def test_five_hundred_networks_are_bounded_soundly() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        assert_between(*random_case(rng))


@DETERMINISTIC
@given(relu_networks(layers=(2, 3), most_inputs=2, most_neurons=4), boxes(2), exponents())
def test_networks_with_ties_are_bounded_soundly(network: ReluNetwork, box: Box, p: float) -> None:
    if network.input_dimension == 2:
        q = dual_exponent(p)
        truth = lipschitz_by_lp(network, box, [q])[q]
        for method in METHODS:
            # The truth is a norm in float64.
            assert method.solve(LipschitzProblem(network, p, box)).upper >= truth * (1 - 1e-14), method.name


def test_lines_through_the_jacobian_hold_for_every_slope() -> None:
    """Random slopes in [0, 1] of undecided neurons, 0 and 1 often: no product is longer; with all decided it is met."""
    rng = np.random.default_rng(2)
    for _ in range(40):
        sizes = [int(rng.integers(1, 6)), *rng.integers(1, 8, size=int(rng.integers(1, 5))).tolist(), 1]
        w = gaussian_network(sizes, rng).weights
        signs = [rng.choice(np.array([-1, 0, 0, 1], dtype=np.int8), n) for n in sizes[1:-1]]
        eye = np.eye(sizes[0])
        for q in (1.0, 1.5, 2.0, math.inf):
            directions = None if q > 1 else np.array(np.meshgrid(*[[-1.0, 1.0]] * sizes[0])).reshape(sizes[0], -1).T
            bounds = [longest_gradient(w[1:-1], w[-1][0], w[0], signs, q, c) for c in (None, directions)]
            assert bounds[1] <= bounds[0]
            for _ in range(40):
                row = w[-1]
                for sign, part in zip(reversed(signs), reversed(w[:-1]), strict=True):
                    slope = rng.uniform(-0.5, 1.5, len(sign)).clip(0, 1)
                    row = (row * np.where(sign == 0, slope, sign > 0)) @ part
                assert float(vector_norm((row @ eye)[0], q)) <= bounds[1]
            if not any((sign == 0).any() for sign in signs):
                assert bounds[1] == pytest.approx(float(vector_norm(row[0], q)))


def test_a_neuron_of_known_derivative_meets_its_lines() -> None:
    """x -> a |x| + b: one undecided neuron with derivative +-3 below: between -3 and 3, and 3 is reached."""
    found = longest_gradient([], np.array([3.0]), np.array([[1.0]]), [np.zeros(1, dtype=np.int8)], 2.0)
    assert 3.0 <= found <= 3.0 * (1 + 1e-12)
    # u_0 = y_1 - y_2 with y_1, y_2 in [0, 1], so in [-1, 1]; grad = d_0 u_0 (1, -1): never longer than 1 in l_inf.
    signs = [np.zeros(1, dtype=np.int8), np.zeros(2, dtype=np.int8)]
    parts = [np.array([[1.0], [-1.0]])], np.array([1.0, 1.0]), np.array([[1.0, -1.0]]), signs
    assert 1.0 <= longest_gradient(*parts, math.inf) <= 1.0 + 1e-12
    # In l_1 the two derivatives are opposite: 2, not more, and <grad, (1, 1)> = 0 is seen along lines alone.
    assert 2.0 <= longest_gradient(*parts, 1.0) <= 2.0 + 1e-12


def test_sharper_ranges_are_used() -> None:
    """A network without output on the box, as only slopes between 0 and 1 show: relu(0.4 - (relu(x) - 0.8 x)) - ..."""
    weights = [[[1.0], [-1.0], [1.0]], [[-1.0, -0.4, 0.4]], [[1.0]]]
    silent = ReluNetwork(weights, [[0.0, 2.0, 2.0], [-0.05], [0.0]])
    problem = LipschitzProblem(silent, 2.0, Box.cube(1))
    assert forward_signs(silent, Box.cube(1))[1][0] == 0
    for method in METHODS:
        assert method.solve(problem).upper == 0.0


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_a_time_limit_is_kept(p: float) -> None:
    """However little, an answer comes, and it holds; what there is no time for is left out."""
    network = gaussian_network([6, 60, 60, 60, 1], np.random.default_rng(3), 0.3)
    box = Box.cube(6)
    longest = LIPSCHITZ_SOLVERS["sampling"].solve(LipschitzProblem(network, p, box)).lower
    for method in METHODS:
        for seconds in (0.0, 0.02, 0.3):
            answer = method.solve(LipschitzProblem(network, p, box), budget=Budget(seconds=seconds))
            assert longest <= answer.upper < math.inf
