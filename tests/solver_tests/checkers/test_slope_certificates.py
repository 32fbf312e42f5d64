"""Multipliers as certificates: honest ones pass for every p, size and domain; what is below the optimum never.

Two judges of lies: a gradient that is attained, and the value of the program's dual, below which no multipliers lead.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from solvers.arithmetic.norms import vector_norm
from solvers.checkers.slope_multipliers import check_slope_multipliers
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.verify import Verdict, verify_bounds
from tests.strategies import DETERMINISTIC, domains, exponents, gaussian_network, relu_networks

P_VALUES = (1.0, 1.25, 1.5, 2.0, 3.0, 8.0, math.inf)
CERTIFYING = Semidefinite().certifying()


def certified(problem: LipschitzProblem) -> tuple[LipschitzBounds, dict[str, Any]]:
    answer = CERTIFYING.solve(problem)
    assert answer.certificate is not None
    return answer, copy.deepcopy(dict(answer.certificate.data))


def some_problem(rng: np.random.Generator, p: float, most_neurons: int = 12) -> LipschitzProblem:
    d = int(rng.integers(1, 7))
    sizes = [d, *rng.integers(2, most_neurons, size=int(rng.integers(1, 4))).tolist(), 1]
    whole = rng.random() < 0.4
    domain = None if whole else Box.ball(rng.standard_normal(d), 10.0 ** rng.uniform(-2, 0.5))
    return LipschitzProblem(gaussian_network(sizes, rng, 0.5), p, domain)


def attained(problem: LipschitzProblem, rng: np.random.Generator) -> float:
    """The longest gradient at some points of the domain, straight from the definition."""
    network, domain = problem.network, problem.domain
    points = 2 * rng.standard_normal((200, network.input_dimension))
    if isinstance(domain, Box):
        points = rng.uniform(domain.lower, domain.upper, size=points.shape)
    longest = 0.0
    for x in points:
        jacobian = np.eye(len(x))
        for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
            x = w @ x + b
            jacobian = (x > 0)[:, None] * (w @ jacobian)
            x = np.maximum(x, 0.0)
        longest = max(longest, float(vector_norm((network.weights[-1] @ jacobian)[0], problem.dual_p)))
    return longest


@pytest.mark.parametrize("p", P_VALUES)
def test_honest_multipliers_pass(p: float) -> None:
    rng = np.random.default_rng(round(100 * min(p, 99)))
    for _ in range(12):
        problem = some_problem(rng, p)
        answer, _ = certified(problem)
        verification = verify_bounds(problem, answer)
        assert verification.verdict is Verdict.PROVED, (problem.network.widths, verification)


@DETERMINISTIC
@given(relu_networks(layers=(1, 3)), exponents(), domains(3))
def test_honest_multipliers_of_networks_with_ties_pass(network: ReluNetwork, p: float, domain: Domain) -> None:
    """Dead and repeated neurons, layers that are constant, boxes that touch a kink."""
    if domain.dimension == network.input_dimension:
        problem = LipschitzProblem(network, p, domain)
        answer, data = certified(problem)
        check = check_slope_multipliers(problem, data, answer.upper)
        assert check.holds, check.reason


@pytest.mark.parametrize("sizes", [[30, 64, 64, 64, 1], [100, 40, 30, 1], [20, 48, 48, 48, 48, 48, 48, 1]], ids=str)
@pytest.mark.parametrize("p", [2.0, 3.0, math.inf])
def test_honest_multipliers_of_wide_and_deep_networks_pass(sizes: list[int], p: float) -> None:
    problem = LipschitzProblem(gaussian_network(sizes, np.random.default_rng(7)), p)
    answer, data = certified(problem)
    check = check_slope_multipliers(problem, data, answer.upper)
    assert check.holds, check.reason


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, math.inf])
@pytest.mark.parametrize("scale", [1e-150, 1e-60, 1e60, 1e150])
def test_scales_of_neurons_change_nothing(p: float, scale: float) -> None:
    """One neuron times a number, what it feeds divided by it; then the whole function times a number."""
    network = gaussian_network([4, 6, 5, 1], np.random.default_rng(8))
    plain, _ = certified(LipschitzProblem(network, p))
    power = 2.0 ** round(math.log2(scale))
    weights = [w.copy() for w in network.weights]
    weights[0][2] *= power
    weights[1][:, 2] /= power
    turned = LipschitzProblem(ReluNetwork(weights, network.biases), p)
    answer, data = certified(turned)
    assert answer.upper == plain.upper
    assert check_slope_multipliers(turned, data, answer.upper).holds
    large = LipschitzProblem(ReluNetwork([*network.weights[:-1], power * network.weights[-1]], network.biases), p)
    answer, data = certified(large)
    assert answer.upper == power * plain.upper
    assert check_slope_multipliers(large, data, answer.upper).holds
    assert not check_slope_multipliers(large, data, answer.upper * (1 - 1e-6)).holds


def perturbed(layers: list[list[float]], rng: np.random.Generator) -> None:
    """Other multipliers, near or far, in all layers or at one neuron."""
    size = 10.0 ** rng.uniform(-6, 0.5)
    chosen = range(len(layers)) if rng.random() < 0.7 else [int(rng.integers(len(layers)))]
    for k in chosen:
        layers[k][:] = [value * math.exp(size * rng.standard_normal()) for value in layers[k]]


def lie(p: float, rng: np.random.Generator) -> tuple[LipschitzProblem, dict[str, Any], float]:
    """A certificate that was made to prove more than is true, or more than its multipliers can prove."""
    problem = some_problem(rng, p, 8)
    answer, data = certified(problem)
    # What no multipliers can prove: less than the dual reaches for p >= 2, less than is attained for all p.
    gap = answer.stats.get("gap_to_optimum")
    floor = answer.upper / (1 + gap) if gap is not None else attained(problem, rng)
    claim = floor * (1 - 10.0 ** rng.uniform(-6, -1))
    if answer.upper == 0:
        return problem, data, -1.0
    factor = claim / answer.upper
    if data["square"] is not None:
        data["square"]["t"] = [value * factor**2 for value in data["square"]["t"]]
        if rng.random() < 0.7:
            perturbed(data["square"]["layers"], rng)
    if data["derivative"] is not None:
        data["derivative"] = (np.array(data["derivative"]) * factor).tolist()
        for program in data["columns"]:
            if rng.random() < 0.7:
                perturbed(program["layers"], rng)
    return problem, data, claim


def assert_lies_are_refused(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for number in range(count):
        problem, data, claim = lie(P_VALUES[number % len(P_VALUES)], rng)
        check = check_slope_multipliers(problem, data, claim)
        assert not check.holds, (number, problem.p, problem.network.widths, claim)


def test_no_multipliers_prove_what_is_wrong() -> None:
    assert_lies_are_refused(300, 11)


@pytest.mark.slow
def test_no_multipliers_prove_what_is_wrong_in_two_thousand_cases() -> None:
    assert_lies_are_refused(2000, 12)


BROKEN: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("cannot be replayed", lambda data: data.pop("square")),
    ("no multipliers", lambda data: data.update(square=None)),
    ("cannot be replayed", lambda data: data["square"].pop("t")),
    ("shape", lambda data: data["square"]["t"].pop()),
    ("positive numbers", lambda data: data["square"]["t"].__setitem__(0, -1.0)),
    ("positive numbers", lambda data: data["square"]["t"].__setitem__(0, math.nan)),
    ("positive numbers", lambda data: data["square"]["layers"][0].__setitem__(1, math.inf)),
    ("positive numbers", lambda data: data["square"]["layers"][0].__setitem__(1, -1.0)),
    ("no multiplier, and no sign", lambda data: data["square"]["layers"][1].__setitem__(0, 0.0)),
    ("layers", lambda data: data["square"]["layers"].pop()),
    ("shape", lambda data: data["square"]["layers"][0].pop()),
    ("shape", lambda data: data["square"]["layers"].reverse()),
    ("cannot be replayed", lambda data: data.update(square=7)),
    ("positive definite", lambda data: data["square"]["layers"][1].__setitem__(0, 1e-9)),
    ("more than the upper bound", lambda data: data["square"]["t"].__setitem__(0, data["square"]["t"][0] * 1.01)),
]


@pytest.mark.parametrize(("reason", "breaks"), BROKEN)
def test_broken_certificates_are_named(reason: str, breaks: Callable[[dict[str, Any]], object]) -> None:
    problem = LipschitzProblem(gaussian_network([4, 6, 5, 1], np.random.default_rng(3)), math.inf)
    answer, data = certified(problem)
    breaks(data)
    check = check_slope_multipliers(problem, data, answer.upper)
    assert not check.holds
    assert reason in check.reason


def test_every_derivative_must_have_a_program() -> None:
    problem = LipschitzProblem(gaussian_network([4, 6, 5, 1], np.random.default_rng(3)), 1.0)
    answer, data = certified(problem)
    for change in (
        lambda new: new["columns"][0]["inputs"].pop(),
        lambda new: new["columns"].pop(),
        lambda new: new["columns"].append(new["columns"][0]),
        lambda new: new["columns"][0]["inputs"].append(4),
        lambda new: new.update(derivative=new["derivative"] * (1 + 1e-6)),
        lambda new: new.update(derivative=math.nan),
        lambda new: new.update(derivative=None),
    ):
        changed = copy.deepcopy(data)
        change(changed)
        assert not check_slope_multipliers(problem, changed, answer.upper).holds


def test_signs_of_a_small_box_prove_nothing_on_a_larger_one() -> None:
    network = gaussian_network([4, 9, 8, 1], np.random.default_rng(5))
    small, large = (LipschitzProblem(network, 2.0, Box.ball(np.ones(4), radius)) for radius in (0.05, 2.0))
    answer, data = certified(small)
    assert check_slope_multipliers(small, data, answer.upper).holds
    assert attained(large, np.random.default_rng(0)) > answer.upper
    assert not check_slope_multipliers(large, data, answer.upper).holds


def test_the_multipliers_of_another_network_are_refused() -> None:
    mine, other = (LipschitzProblem(gaussian_network([4, 6, 5, 1], np.random.default_rng(k)), 2.0) for k in (3, 4))
    answer, data = certified(mine)
    assert not check_slope_multipliers(other, data, answer.upper).holds
