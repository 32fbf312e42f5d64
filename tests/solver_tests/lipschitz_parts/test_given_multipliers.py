"""Multipliers that come from elsewhere: the closed form of ECLipsE-Fast."""

from __future__ import annotations

import math
from dataclasses import replace

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
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.problems.witnesses import gradients_at
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, verify_bounds
from tests.references.slope_programs import eclipse_fast
from tests.strategies import DETERMINISTIC, P_VALUES, exponents, gaussian_network, relu_networks

FAST = EclipseFast(certified=True)
EVERY_P = (1.0, 1.25, 1.5, 2.0, 3.0, 8.0, math.inf)


@pytest.mark.parametrize("sizes", [[3, 6, 1], [10, 20, 20, 1], [5, 9, 8, 7, 6, 1], [60, 30, 40, 1]], ids=str)
def test_the_closed_form_is_what_is_proved_at_least(sizes: list[int]) -> None:
    network = gaussian_network(sizes, np.random.default_rng(1))
    formula, _ = eclipse_fast(network)
    upper = FAST.solve(LipschitzProblem(network, 2.0)).upper
    best = Semidefinite().solve(LipschitzProblem(network, 2.0))
    # No multipliers prove less than the program's optimum.
    assert best.upper / (1 + best.stats["gap_to_optimum"]) <= upper <= formula * (1 + 1e-6)


@pytest.mark.parametrize("p", EVERY_P)
@pytest.mark.parametrize("sizes", [[4, 1], [4, 9, 1], [10, 30, 30, 1], [12, 24, 24, 24, 24, 1]], ids=str)
def test_its_proofs_are_replayed(sizes: list[int], p: float) -> None:
    network = gaussian_network(sizes, np.random.default_rng(2))
    for domain in (None, Box.cube(sizes[0])):
        problem = LipschitzProblem(network, p, domain)
        answer = FAST.solve(problem)
        assert answer.upper == EclipseFast().solve(problem).upper
        verification = verify_bounds(problem, answer)
        assert verification.verdict is Verdict.PROVED, verification
        less = replace(answer, upper=answer.upper * 0.5)
        assert verify_bounds(problem, less).verdict is Verdict.REFUTED


@DETERMINISTIC
@given(relu_networks(layers=(0, 3), most_inputs=4), exponents())
def test_it_is_above_every_gradient(network: ReluNetwork, p: float) -> None:
    """Dead, repeated and opposite neurons, constant layers."""
    points = np.random.default_rng(0).standard_normal((60, network.input_dimension)) * 3
    lengths = np.linalg.norm(gradients_at(network, points), dual_exponent(p), axis=1)
    assert EclipseFast().solve(LipschitzProblem(network, p)).upper >= lengths.max() * (1 - 1e-12)


def test_one_neuron_has_its_constant() -> None:
    network = ReluNetwork([[[3.0, -4.0]], [[2.0]]], [[1.0], [0.0]])
    for p in (1.0, 2.0, math.inf):  # between them norms are interpolated
        truth = 2 * float(np.linalg.norm([3.0, 4.0], dual_exponent(p)))
        assert EclipseFast().solve(LipschitzProblem(network, p)).upper == pytest.approx(truth, rel=0.02)


def test_what_cannot_be_proved_is_a_product_of_norms_and_why_is_said() -> None:
    wide = ReluNetwork([[[1.0, 1e-200]], [[1.0]]], [[0.0], [0.0]])
    answer = EclipseFast().solve(LipschitzProblem(wide, 2.0))
    assert 1.0 <= answer.upper < 1.001
    assert "product of norms" in answer.reason
    network = gaussian_network([30, 40, 40, 1], np.random.default_rng(0))
    answer = EclipseFast().solve(LipschitzProblem(network, 2.0), budget=Budget(seconds=0.0))
    assert norm_product_bound(network, 2.0) <= answer.upper < math.inf
    assert "--time-limit" in answer.reason


def test_constant_networks_have_the_constant_0() -> None:
    dead = ReluNetwork([[[0.0, 0.0]], [[1.0]], [[3.0]]], [[1.0], [0.0], [0.0]])
    mute = ReluNetwork([[[1.0, 2.0]], [[0.0]]], [[0.0], [1.0]])
    for network in (dead, mute):
        for p in P_VALUES:
            answer = FAST.solve(LipschitzProblem(network, p))
            assert (answer.upper, answer.status) == (0.0, Status.EXACT)


@pytest.mark.parametrize("method", ["norm-product", "eclipse-fast", "semidefinite"])
@pytest.mark.parametrize("size", [1e18, 1e260])
def test_biases_of_any_size_change_no_global_bound(method: str, size: float) -> None:
    """Cauchy biases have no moments: some are huge."""
    rng = np.random.default_rng(3)
    plain = gaussian_network([4, 9, 8, 1], rng)
    biases = [size * rng.standard_cauchy(len(b)).clip(-1e6, 1e6) for b in plain.biases]
    huge = ReluNetwork(plain.weights, biases)
    for p in EVERY_P:
        found = [LIPSCHITZ_SOLVERS[method].solve(LipschitzProblem(network, p)).upper for network in (plain, huge)]
        # Other powers of two may balance the network.
        assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_cheap_bounds_are_in_order_on_wide_networks() -> None:
    for seed, sizes in enumerate(([10, 64, 64, 64, 1], [100, 80, 80, 1], [8, 32, 32, 32, 32, 32, 1])):
        network = gaussian_network(sizes, np.random.default_rng(seed))
        problem = LipschitzProblem(network, 2.0)
        neuron, fast = Semidefinite().solve(problem).upper, FAST.solve(problem).upper
        assert neuron < fast < norm_product_bound(network, 2.0)
        assert NormProduct().solve(problem).upper < norm_product_bound(network, 2.0)
