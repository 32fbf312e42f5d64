"""LipSDP-Neuron: never below the truth, in its place among its peers, near its optimum, within its time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given

from solvers.arithmetic.norms import dual_exponent
from solvers.lipschitz.bounds.norm_products import norm_product_bound
from solvers.lipschitz.eclipse_fast import EclipseFast
from solvers.lipschitz.norm_product import NormProduct
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, verify_bounds
from tests.references.exact_methods import solved, some_box
from tests.references.lp_enumeration import lipschitz_by_lp
from tests.references.slope_programs import (
    eclipse_fast,
    one_multiplier_a_layer,
    one_multiplier_a_neuron,
    product_of_spectral_norms,
)
from tests.strategies import DETERMINISTIC, exponents, gaussian_network, relu_networks

P_VALUES = (1.0, 1.25, 1.5, 2.0, 3.0, 8.0, math.inf)
SOLVER = Semidefinite()
FAST = EclipseFast()
REGIONS = LIPSCHITZ_SOLVERS["region-enumeration"]
VERTICES = LIPSCHITZ_SOLVERS["vertex-enumeration"]


def random_case(rng: np.random.Generator) -> tuple[ReluNetwork, Domain]:
    """A small network of up to four hidden layers, and a box or all of R^d."""
    depth = int(rng.integers(1, 5))
    d = int(rng.integers(1, 5 if depth == 1 else 4))
    widths = rng.integers(2, 9 if depth < 3 else 6, size=depth).tolist()
    network = gaussian_network([d, *widths, 1], rng, float(rng.choice([0.0, 0.3, 1.0])))
    return network, WholeSpace(d) if rng.random() < 0.5 else some_box(d, rng)


def assert_sound_and_in_order(network: ReluNetwork, domain: Domain) -> None:
    exact = solved(VERTICES if network.depth == 1 else REGIONS, network, domain, exponents=P_VALUES)
    for p, answer in exact.items():
        bound = SOLVER.solve(LipschitzProblem(network, p, domain))
        told = f"p = {p}, {[w.tolist() for w in network.weights]}, {domain.describe()}"
        # Every lower bound is the length of a gradient that is attained, proved in exact arithmetic.
        assert bound.upper >= answer.lower, told
        if p == 2:
            neuron, layer, (fast, _) = bound.upper, one_multiplier_a_layer(network), eclipse_fast(network)
            proved = FAST.solve(LipschitzProblem(network, p, domain)).upper
            product = NormProduct().solve(LipschitzProblem(network, p, domain)).upper
            assert answer.lower <= proved <= fast * (1 + 1e-9), told
            assert answer.lower <= product <= product_of_spectral_norms(network) * (1 + 1e-9), told
            # What is allowed is how far the bound may be from its own optimum.
            assert neuron <= layer * (1 + 1e-4), told
            assert layer <= fast * (1 + 1e-9), told
            assert fast <= product_of_spectral_norms(network) * (1 + 1e-9), told


def test_sixty_networks_are_bounded_soundly_and_in_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        assert_sound_and_in_order(*random_case(rng))


@pytest.mark.slow
def test_five_hundred_networks_are_bounded_soundly_and_in_order() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        assert_sound_and_in_order(*random_case(rng))


@DETERMINISTIC
@given(relu_networks(layers=(1, 2), most_inputs=2, most_neurons=4), exponents())
def test_networks_with_ties_are_bounded_soundly(network: ReluNetwork, p: float) -> None:
    for domain in (WholeSpace(network.input_dimension), Box.cube(network.input_dimension)):
        truth = lipschitz_by_lp(network, domain, [dual_exponent(p)])[dual_exponent(p)]
        # The truth is a norm in float64.
        assert SOLVER.solve(LipschitzProblem(network, p, domain)).upper >= truth * (1 - 1e-14)


@pytest.mark.parametrize("sizes", [[3, 6, 1], [4, 6, 5, 1], [3, 4, 4, 4, 1]], ids=str)
@pytest.mark.parametrize("p", [2.0, math.inf])
def test_a_general_solver_finds_the_same_optimum(sizes: list[int], p: float) -> None:
    network = gaussian_network(sizes, np.random.default_rng(4))
    answer = SOLVER.solve(LipschitzProblem(network, p))
    reference = one_multiplier_a_neuron(network, p)
    assert reference * (1 - 1e-6) <= answer.upper <= reference * 1.0005
    assert 0 <= answer.stats["gap_to_optimum"] <= 5e-4


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, math.inf])
def test_on_a_box_without_kinks_the_gradient_is_left(p: float) -> None:
    """One region: the bound is the length of its gradient."""
    network = gaussian_network([4, 8, 7, 1], np.random.default_rng(1))
    x = np.full(4, 0.4)
    pre = network.weights[0] @ x + network.biases[0]
    hidden = network.weights[1] @ np.maximum(pre, 0) + network.biases[1]
    gradient = (network.weights[2] * (hidden > 0)) @ (network.weights[1] * (pre > 0)) @ network.weights[0]
    length = float(np.linalg.norm(gradient[0], dual_exponent(p)))
    upper = SOLVER.solve(LipschitzProblem(network, p, Box.ball(x, 1e-6))).upper
    # Between 1 and 2 the interpolation of norms is loose.
    assert length <= upper <= length * (1 + (1e-6 if p in (1, 2) else math.inf if p < 2 else 1e-4))


def test_the_shallow_derivatives_have_a_closed_form() -> None:
    v, w = np.array([1.0, -2.0, 3.0]), np.array([[1.0, 2.0], [1.0, -1.0], [-2.0, 1.0]])
    network = ReluNetwork([w, v[None]], [np.ones(3), np.zeros(1)])
    # Derivatives by x_1: terms 1, -2, -6; by x_2: 2, 2, 3.
    upper = SOLVER.solve(LipschitzProblem(network, 1.0)).upper
    assert 8.0 <= upper <= 8.0 * (1 + 1e-12)


def test_between_1_and_2_it_is_below_what_both_give() -> None:
    rng = np.random.default_rng(11)
    for sizes in ([5, 9, 1], [6, 8, 8, 1], [4, 12, 12, 12, 1]):
        network = gaussian_network(sizes, rng)
        ends = {p: SOLVER.solve(LipschitzProblem(network, p)).upper for p in (1.0, 2.0)}
        for p in (1.1, 1.5, 1.9):
            share = 2 * (1 - 1 / p)
            interpolated = ends[2.0] ** share * ends[1.0] ** (1 - share)
            # Derivatives are raised by 1e-5 of the largest one, for the rounding of a checker.
            assert SOLVER.solve(LipschitzProblem(network, p)).upper <= interpolated * (1 + 1e-4)


def test_the_gap_to_the_optimum_is_told_where_there_is_one_program() -> None:
    shallow, deep = (gaussian_network(sizes, np.random.default_rng(12)) for sizes in ([4, 9, 1], [4, 9, 9, 1]))
    for network, p in itertools.product((shallow, deep), P_VALUES):
        answer = SOLVER.solve(LipschitzProblem(network, p))
        told = p >= 2 or (p == 1 and network is deep)
        assert ("gap_to_optimum" in answer.stats) == ("optimum_at_least" in answer.stats) == told
        if told:
            assert answer.stats["gap_to_optimum"] <= 1e-3
            assert answer.stats["optimum_at_least"] <= answer.upper * (1 + 1e-12)


def test_a_pair_of_opposite_neurons_is_a_known_loss() -> None:
    """relu(x) - relu(-x) = x has slope 1, but slopes that do not know of each other add up to 2."""
    line = ReluNetwork([[[1.0], [-1.0]], [[1.0, -1.0]]], [[0.0, 0.0], [0.0]])
    for p in P_VALUES:
        assert SOLVER.solve(LipschitzProblem(line, p)).upper == pytest.approx(2.0, rel=1e-4)


def test_constant_networks_have_the_constant_0() -> None:
    dead = ReluNetwork([[[0.0, 0.0]], [[1.0]], [[3.0]]], [[1.0], [0.0], [0.0]])
    mute = ReluNetwork([[[1.0, 2.0]], [[0.0]]], [[0.0], [1.0]])
    silent = LipschitzProblem(ReluNetwork([[[1.0]], [[1.0]]], [[-5.0], [0.0]]), 2.0, Box.cube(1))
    for problem in (*(LipschitzProblem(net, p) for net in (dead, mute) for p in P_VALUES), silent):
        answer = SOLVER.solve(problem)
        assert (answer.upper, answer.status) == (0.0, Status.EXACT)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
def test_without_time_a_product_of_norms_is_left_and_why_is_said(p: float) -> None:
    network = gaussian_network([30, 40, 40, 1], np.random.default_rng(0))
    answer = SOLVER.solve(LipschitzProblem(network, p), budget=Budget(seconds=0.0))
    assert norm_product_bound(network, p) <= answer.upper < math.inf
    assert "--time-limit" in answer.reason


def test_weights_beyond_scaling_leave_a_product_of_norms_and_why_is_said() -> None:
    network = ReluNetwork([[[1.0, 1e-200]], [[1.0]]], [[0.0], [0.0]])
    answer = SOLVER.solve(LipschitzProblem(network, 2.0))
    assert 1.0 <= answer.upper < 1.001
    assert "orders of magnitude" in answer.reason


@pytest.mark.parametrize("domain", [WholeSpace(6), Box.cube(6)], ids=["global", "box"])
def test_auto_asks_it_where_no_method_is_exact_and_its_proof_is_replayed(domain: Domain) -> None:
    problem = LipschitzProblem(gaussian_network([6, 300, 300, 1], np.random.default_rng(0), 0.3), 2.0, domain)
    answer = LIPSCHITZ_SOLVERS["auto"].certifying().solve(problem)
    assert answer.method == "ascent+semidefinite"
    assert 0 < answer.lower < answer.upper < product_of_spectral_norms(problem.network) / 2
    assert answer.certificate is not None
    assert answer.certificate.kind == "slope-multipliers"
    assert verify_bounds(problem, answer).verdict is Verdict.PROVED
