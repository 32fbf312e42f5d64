"""The semidefinite program stated for a solver: what counts is what its multipliers prove, whatever it says."""

from __future__ import annotations

import importlib.util
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import solvers.lipschitz.semidefinite as semidefinite
from solvers.errors import InputError, MissingBackendError
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers, in_units
from solvers.lipschitz.bounds.slopes.vectors import Multipliers
from solvers.lipschitz.programs.slope_statement import SEMIDEFINITE_BACKENDS, Stated, solve_statement
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.registry import LIPSCHITZ_SOLVERS, lipschitz_solver_named
from solvers.verify import Verdict, verify_bounds
from tests.references.exact_methods import solved
from tests.references.slope_programs import one_multiplier_a_neuron
from tests.strategies import gaussian_network

EVERY_P = (1.0, 1.25, 1.5, 2.0, 3.0, 8.0, math.inf)
HERE = [name for name, backend in SEMIDEFINITE_BACKENDS.items() if importlib.util.find_spec(backend.package)]


@pytest.mark.parametrize("solver", HERE)
@pytest.mark.parametrize("p", EVERY_P)
def test_a_solver_and_the_network_of_vectors_agree(solver: str, p: float) -> None:
    network = gaussian_network([3, 6, 5, 1], np.random.default_rng(4))
    exact = solved(
        LIPSCHITZ_SOLVERS["region-enumeration"], network, LipschitzProblem(network, p).domain, exponents=(p,)
    )
    for domain in (None, Box.cube(3, -0.3, 0.3)):
        problem = LipschitzProblem(network, p, domain)
        answer = Semidefinite(certified=True, program_solver=solver).solve(problem)
        own = Semidefinite().solve(problem)
        # Between 1 and 2 the stated program does not weigh the inputs, which the network of vectors does.
        assert own.upper * (1 - 2e-3) <= answer.upper <= own.upper * (1.05 if 1 < p < 2 else 1 + 2e-3)
        assert domain is not None or answer.upper >= exact[p].lower
        assert verify_bounds(problem, answer).verdict is Verdict.PROVED


def test_it_is_the_optimum_of_another_statement() -> None:
    network = gaussian_network([4, 6, 5, 1], np.random.default_rng(5))
    for p in (2.0, math.inf):
        upper = Semidefinite(program_solver="CLARABEL").solve(LipschitzProblem(network, p)).upper
        assert upper == pytest.approx(one_multiplier_a_neuron(network, p), rel=1e-5)


@pytest.mark.parametrize("p", EVERY_P)
def test_shallow_and_constant_networks(p: float) -> None:
    solver = Semidefinite(program_solver="CLARABEL")
    shallow = gaussian_network([3, 6, 1], np.random.default_rng(6))
    own = Semidefinite().solve(LipschitzProblem(shallow, p)).upper
    assert (
        own * (1 - 1e-3) <= solver.solve(LipschitzProblem(shallow, p)).upper <= own * (1.05 if 1 < p < 2 else 1 + 1e-3)
    )
    dead = ReluNetwork([[[0.0, 0.0]], [[1.0]], [[3.0]]], [[1.0], [0.0], [0.0]])
    answer = solver.solve(LipschitzProblem(dead, p))
    assert (answer.upper, answer.status) == (0.0, Status.EXACT)


@pytest.mark.parametrize("factor", [-1.0, 0.0, 1e-6])
def test_multipliers_that_prove_nothing_leave_a_product_of_norms(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A solver that says "optimal" and hands back what is not feasible."""
    network = gaussian_network([4, 6, 5, 1], np.random.default_rng(5))
    problem = LipschitzProblem(network, 2.0)
    honest = Semidefinite().solve(problem).upper

    def lied(layers: SlopeLayers, p: float, name: str, seconds: float) -> Stated:
        stated = solve_statement(layers, p, name, seconds)
        assert stated.multipliers is not None
        parts = tuple(np.maximum(factor * part, 1e-9 * part.max()) for part in stated.multipliers.layers)
        return Stated("optimal", 1e-3, Multipliers(parts, stated.multipliers.inputs))

    monkeypatch.setattr(semidefinite, "solve_statement", lied)
    answer = Semidefinite(program_solver="CLARABEL").solve(problem)
    assert answer.upper > honest * 1.5
    assert "cannot be proved" in answer.reason
    assert "product of norms" in answer.reason


def test_a_status_that_is_not_optimal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def inaccurate(layers: SlopeLayers, p: float, name: str, seconds: float) -> Stated:
        stated = solve_statement(layers, p, name, seconds)
        return Stated("optimal_inaccurate", stated.value * 0.99, stated.multipliers)

    monkeypatch.setattr(semidefinite, "solve_statement", inaccurate)
    network = gaussian_network([4, 6, 5, 1], np.random.default_rng(5))
    answer = Semidefinite(program_solver="SCS").solve(LipschitzProblem(network, 2.0))
    assert "SCS ended optimal_inaccurate" in answer.reason
    best = Semidefinite().solve(LipschitzProblem(network, 2.0))
    assert answer.upper >= best.upper / (1 + best.stats["gap_to_optimum"])


def test_what_is_too_large_is_said() -> None:
    network = gaussian_network([10, 200, 200, 1], np.random.default_rng(0))
    answer = Semidefinite(program_solver="CLARABEL").solve(LipschitzProblem(network, 2.0))
    assert "too large to be stated" in answer.reason
    assert "--solver" in answer.reason


def test_solvers_are_looked_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lipschitz_solver_named("semidefinite:clarabel") == Semidefinite(program_solver="CLARABEL")
    assert lipschitz_solver_named("semidefinite", "scs") == Semidefinite(program_solver="SCS")
    with pytest.raises(InputError, match="CLARABEL, SCS, MOSEK"):
        lipschitz_solver_named("semidefinite:sdpt3")
    with pytest.raises(InputError, match="already"):
        lipschitz_solver_named("semidefinite:scs", "clarabel")
    with pytest.raises(InputError, match="takes no solver"):
        lipschitz_solver_named("auto", "clarabel")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingBackendError, match=r"interlip\[mosek\]"):
        lipschitz_solver_named("semidefinite", "mosek")
    with pytest.raises(MissingBackendError, match=r"pip install clarabel"):
        Semidefinite(program_solver="CLARABEL").solve(
            LipschitzProblem(gaussian_network([2, 3, 1], np.random.default_rng(0)), 2.0)
        )


@pytest.mark.parametrize("seed", range(3))
def test_a_solver_that_stops_early_proves_what_its_multipliers_prove(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SCS after 50 sweeps: "optimal_inaccurate", with a value that is far from the optimum."""
    backend = replace(SEMIDEFINITE_BACKENDS["SCS"], options=lambda seconds: {"max_iters": 50, "eps": 1e-6})
    monkeypatch.setitem(SEMIDEFINITE_BACKENDS, "SCS", backend)
    problem = LipschitzProblem(gaussian_network([4, 8, 8, 8, 1], np.random.default_rng(seed)), 2.0)
    best = Semidefinite().solve(problem)
    answer = Semidefinite(program_solver="SCS", certified=True).solve(problem)
    assert best.upper / (1 + best.stats["gap_to_optimum"]) <= answer.upper < math.inf
    assert "SCS ended optimal_inaccurate" in answer.reason
    assert answer.certificate is None or verify_bounds(problem, answer).verdict is Verdict.PROVED


@pytest.mark.slow
def test_what_a_solver_calls_its_optimum_may_be_below_it() -> None:
    """SCS with its own tolerances, Gaussian (10, 20, 4): "optimal" at 1.2e-5 below the optimum where this was seen."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((n, m)) * math.sqrt(2 / n) for m, n in itertools.pairwise([10, 20, 20, 20, 20])]
    network = ReluNetwork([*weights, rng.standard_normal((1, 20))], [*[np.zeros(20)] * 4, np.zeros(1)])
    problem = LipschitzProblem(network, 2.0)
    best = Semidefinite().solve(problem)
    answer = Semidefinite(program_solver="SCS").solve(problem)
    layers = SlopeLayers.of(network)
    stated = solve_statement(layers, 2.0, "SCS", math.inf)
    assert in_units(stated.value, layers.exponent) == pytest.approx(best.upper, rel=1e-3)
    assert answer.upper >= best.upper / (1 + best.stats["gap_to_optimum"])
