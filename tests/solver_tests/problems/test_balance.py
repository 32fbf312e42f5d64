"""Networks of extreme sizes in units in which float64 is safe: the same function, the same intervals."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from solvers.errors import UnsupportedProblemError
from solvers.networks.relu import ReluNetwork
from solvers.problems.balance import balance, balance_all
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, verify_bounds
from tests.strategies import gaussian_network

METHODS = [name for name in LIPSCHITZ_SOLVERS if name != "mixed-integer"]


def in_units(network: ReluNetwork, most: int, rng: np.random.Generator) -> ReluNetwork:
    """The same function, every neuron in a unit 2^k of its own, |k| <= most."""
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    for m in range(network.depth):
        unit = 2.0 ** rng.integers(-most, most + 1, len(biases[m]))
        weights[m] *= unit[:, None]
        biases[m] *= unit
        weights[m + 1] /= unit
    return ReluNetwork(weights, biases)


def chain(*weights: float) -> ReluNetwork:
    """w_L relu(... relu(w_0 x))."""
    return ReluNetwork([[[w]] for w in weights], [[0.0] for _ in weights])


def test_ordinary_networks_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    for sizes in ([1, 1], [3, 5, 1], [2, 4, 4, 4, 1], [30, 60, 60, 60, 60, 60, 60, 60, 60, 60, 1]):
        problem = LipschitzProblem(gaussian_network(sizes, rng), 2)
        assert balance(problem).problem is problem
    dead = ReluNetwork([[[1.0], [0.0]], [[1.0, 1.0]]], [[0.0, 1.0], [0.0]])
    assert balance(LipschitzProblem(dead, 2)).problem.network is dead


def test_a_pruned_neuron_does_not_make_a_network_extreme() -> None:
    network = ReluNetwork([[[1.0], [1e-40]], [[1.0, 1.0]]], [[0.0, 0.0], [0.0]])
    assert balance(LipschitzProblem(network, 2)).problem.network is network


def test_a_balanced_network_is_the_same_function_in_other_units() -> None:
    rng = np.random.default_rng(1)
    plain = gaussian_network([2, 4, 3, 1], rng)
    problem = LipschitzProblem(in_units(plain, 400, rng), 2, Box.cube(2))
    safe = balance(problem)
    assert all(np.abs(w).max() <= 2 for w in safe.problem.network.weights)
    x = rng.uniform(-1, 1, (50, 2))
    told = np.ldexp(safe.problem.network.evaluate(x), safe.output)
    np.testing.assert_allclose(told, plain.evaluate(x) - plain.biases[-1], rtol=1e-12, atol=1e-12)
    again = balance(safe.problem)
    assert again.problem is safe.problem  # nothing is left to do


def test_the_shape_of_a_batch_stays() -> None:
    """Problems that shared a network share one after it, so methods still compute them together."""
    network = chain(1e200, 1e200, 1e-300)
    other = chain(1e200, 1e200, 1e-300)
    problems = [LipschitzProblem(one, p) for one in (network, other) for p in (1, 2)]
    found = [safe.problem for safe in balance_all(problems)]
    assert found[0].network is found[1].network is not found[2].network is found[3].network
    assert [problem.p for problem in found] == [1, 2, 1, 2]


def test_a_box_moves_with_its_inputs() -> None:
    network = ReluNetwork([[[1.0]], [[1.0]]], [[-1e120], [0.0]])
    problem = LipschitzProblem(network, 2, Box([-1e120], [1.5e120]))
    safe = balance(problem)
    assert safe.problem.domain.bounds is not None
    np.testing.assert_array_equal(np.ldexp(safe.problem.domain.bounds, safe.inputs), [[-1e120], [1.5e120]])
    answer = LIPSCHITZ_SOLVERS["branch-and-bound"].solve(problem)
    assert answer.lower == pytest.approx(1)
    assert answer.upper == pytest.approx(1)
    assert answer.witness is not None
    assert 1e120 < answer.witness.point[0] < 1.5e120
    assert verify_bounds(problem, answer).verdict is not Verdict.REFUTED


@pytest.mark.parametrize(
    ("network", "truth"),
    [
        (chain(1e-200, 1e-200, 1e300), lambda p: 1e-100),
        (chain(1e200, 1e200, 1e-300), lambda p: 1e100),
        (
            ReluNetwork(
                [[[1e200, 0.0], [0.0, 1e200]], [[1e200, 1e200]], [[1e-300]]], [[0.0, 0.0], [0.0], [0.0]]
            ),
            lambda p: 1e100 * 2.0 ** (1 - 1 / p),
        ),
        # Twins whose squares overflow, and which cancel: relu(1e160 x + 3e160) twice, once with the factor 2.
        (
            ReluNetwork(
                [[[1e160], [2e160]], [[1e160, -1e160]], [[1e-300]]], [[3e160, 3e160], [0.0], [0.0]]
            ),
            lambda p: 1e20,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", METHODS)
def test_sizes_that_meet_outside_float64(method: str, network: ReluNetwork, truth: Callable[[float], float]) -> None:
    solver = LIPSCHITZ_SOLVERS[method].certifying()
    for domain in (Box.cube(network.input_dimension, -2), WholeSpace(network.input_dimension)):
        problems = [LipschitzProblem(network, p, domain) for p in (1.0, 1.001, 2.0, math.inf)]
        if solver.refuses(problems[0]):
            continue
        for problem, answer in zip(problems, solver.solve_batch(problems), strict=True):
            assert answer.lower <= truth(problem.p) * (1 + 1e-12)
            assert answer.upper >= truth(problem.p) * (1 - 1e-12)
            if solver.exact or method == "auto":
                assert answer.status is Status.EXACT
            assert verify_bounds(problem, answer).verdict is not Verdict.REFUTED


# Products of norms, and one multiplier for a whole layer, depend on the units that neurons are measured in.
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("norm-product", "eclipse-fast")])
def test_units_change_nothing_beyond_rounding(method: str) -> None:
    solver = LIPSCHITZ_SOLVERS[method]
    for seed in range(3):
        rng = np.random.default_rng([seed, 7])
        plain = gaussian_network([2, 4, 3, 1] if method != "vertex-enumeration" else [2, 6, 1], rng)
        moved = in_units(plain, 450, rng)
        for p in (1.5, 2.0, math.inf):
            before, after = (solver.solve(LipschitzProblem(one, p, Box.cube(2))) for one in (plain, moved))
            assert after.upper == pytest.approx(before.upper, rel=1e-6)
            assert after.status is before.status
            if method != "sampling":
                assert after.lower == pytest.approx(before.lower, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_beyond_float64(method: str) -> None:
    solver = LIPSCHITZ_SOLVERS[method]
    for network in (chain(1e200, 1e200, 1e200), chain(1e200, 1e300)):
        problem = LipschitzProblem(network, 2)
        if solver.refuses(problem):
            continue
        answer = solver.solve(problem)
        assert answer.upper == math.inf
        assert answer.status is not Status.EXACT
        assert answer.lower == 0 or answer.witness is not None


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_below_the_least_float64(method: str) -> None:
    problem = LipschitzProblem(chain(1e-200, 1e-200), 2)
    answer = LIPSCHITZ_SOLVERS[method].solve(problem)
    assert answer.lower == 0
    assert answer.upper in (5e-324, math.inf)  # no interval may end at 0: the constant is 1e-400
    assert answer.status is not Status.EXACT


def test_bounds_are_rounded_outward_into_subnormal_numbers() -> None:
    problem = LipschitzProblem(chain(1e-160, 3e-160), 2)
    truth = Fraction(1e-160) * Fraction(3e-160)
    for method in METHODS:
        answer = LIPSCHITZ_SOLVERS[method].solve(problem)
        assert Fraction(answer.lower) <= truth
        assert math.isinf(answer.upper) or truth <= Fraction(answer.upper) <= 2 * truth


def test_what_float64_cannot_hold_side_by_side_is_refused_in_a_sentence() -> None:
    apart = ReluNetwork([[[1e-200], [1e200]], [[1.0, 1.0]]], [[0.0, 0.0], [0.0]])
    with pytest.raises(UnsupportedProblemError, match="layer 1 span"):
        balance(LipschitzProblem(apart, 2))
    biased = ReluNetwork([[[1.0]], [[1e-10]]], [[1e300], [0.0]])
    with pytest.raises(UnsupportedProblemError, match="scale the biases down"):
        balance(LipschitzProblem(biased, 2))
    with pytest.raises(UnsupportedProblemError, match="sides of the box"):
        balance(LipschitzProblem(chain(1.0, 1.0), 2, Box([-1e300], [1e-300])))
