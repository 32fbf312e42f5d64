"""The constant over all outputs: a maximum over them, for every method, under every budget."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from solvers.arithmetic.norms import dual_exponent
from solvers.files.models import save_network
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.surveys.vector_outputs import solve_all_outputs
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, check_witness, verify_all_outputs
from tests.references.lp_enumeration import lipschitz_by_lp
from tests.strategies import gaussian_network

EXPONENTS = (1.0, 1.5, 2.0, math.inf)


@pytest.mark.parametrize("sizes", [[2, 5, 3], [2, 4, 3, 2], [1, 6, 1]], ids=str)
@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
def test_the_constant_is_the_largest_of_an_output(sizes: list[int], whole: bool) -> None:
    network = gaussian_network(sizes, np.random.default_rng([1, *sizes]), 0.5)
    domain = WholeSpace(sizes[0]) if whole else Box.cube(sizes[0])
    duals = [dual_exponent(p) for p in EXPONENTS]
    truths = [lipschitz_by_lp(network.select_output(k), domain, duals) for k in range(sizes[-1])]
    answers = solve_all_outputs(LIPSCHITZ_SOLVERS["auto"], network, EXPONENTS, domain)
    for p, q, answer in zip(EXPONENTS, duals, answers, strict=True):
        values = [truth[q] for truth in truths]
        assert answer.bounds.p == p
        assert answer.bounds.status is Status.EXACT
        assert answer.output == int(np.argmax(values))
        assert answer.bounds.lower == pytest.approx(max(values), rel=1e-9)
        assert answer.bounds.upper == pytest.approx(max(values), rel=1e-6)
        problem = LipschitzProblem(network.select_output(answer.output), p, domain)
        assert check_witness(problem, answer.bounds.witness, answer.bounds.lower).holds


def test_products_of_norms_that_underflow_leave_no_output_out() -> None:
    network = ReluNetwork([[[1e-200]], [[1e-200]], [[1e300], [2e300]]], [[0.0], [0.0], [0.0, 0.0]])
    (answer,) = solve_all_outputs(LIPSCHITZ_SOLVERS["auto"].certifying(), network, [2.0], WholeSpace(1))
    assert answer.output == 1
    assert answer.bounds.lower == pytest.approx(2e-100)
    assert answer.bounds.upper == pytest.approx(2e-100)
    assert verify_all_outputs(network, 1, answer.bounds).verdict is Verdict.PROVED


def test_outputs_whose_product_of_norms_is_too_small_are_not_solved() -> None:
    # Output 1 is a thousandth of output 0, output 2 is zero: one solve.
    w, v = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([[1.0, 1.0], [1e-3, 1e-3], [0.0, 0.0]])
    network = ReluNetwork([w, v], [np.zeros(2), np.zeros(3)])
    (answer,) = solve_all_outputs(LIPSCHITZ_SOLVERS["auto"], network, [2.0], WholeSpace(2))
    assert answer.output == 0
    assert answer.bounds.stats["outputs_solved"] == 1
    zero = ReluNetwork([w, 0 * v], [np.zeros(2), np.zeros(3)])
    (answer,) = solve_all_outputs(LIPSCHITZ_SOLVERS["auto"], zero, [2.0], WholeSpace(2))
    assert (answer.bounds.lower, answer.bounds.upper, answer.bounds.status) == (0.0, 0.0, Status.EXACT)


@pytest.mark.parametrize("method", LIPSCHITZ_SOLVERS)
@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_time_is_shared_and_the_interval_holds(method: str, seconds: float) -> None:
    network = gaussian_network([2, 5, 3], np.random.default_rng(2), 0.5)
    solver, domain = LIPSCHITZ_SOLVERS[method], Box.cube(2)
    truth = max(lipschitz_by_lp(network.select_output(k), domain, [1.0])[1.0] for k in range(3))
    (answer,) = solve_all_outputs(solver, network, [math.inf], domain, budget=Budget(seconds=seconds))
    assert answer.bounds.lower <= truth * (1 + 1e-12)
    assert answer.bounds.upper >= truth * (1 - 1e-12)


class Timed(AbstractLipschitzSolver):
    """Takes 100 seconds on a clock that a test holds, notes what it was allowed, and knows nothing."""

    name: ClassVar[str] = "timed"
    summary: ClassVar[str] = "for tests"
    gives: ClassVar[Gives] = Gives.UPPER
    domains: ClassVar[tuple[type[Domain], ...]] = (Box,)

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.allowed = clock, list[float]()

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        self.allowed.append(budget.seconds)
        self.clock[0] += 100.0
        return LipschitzBounds(0.0, math.inf, Status.BUDGET_SPENT, self.name, problem.p, problem.domain)


def test_every_output_gets_its_share_of_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    solver = Timed(clock)
    network = gaussian_network([2, 5, 3], np.random.default_rng(2), 0.5)
    (answer,) = solve_all_outputs(solver, network, [2.0], Box.cube(2), budget=Budget(seconds=900.0))
    assert solver.allowed == [300.0, 400.0, 700.0]
    assert answer.bounds.status is Status.BUDGET_SPENT


def test_the_command_names_the_output(tmp_path: Path) -> None:
    network = gaussian_network([2, 5, 3], np.random.default_rng(3), 0.5)
    save_network(network, tmp_path / "net.npz")
    truths = [lipschitz_by_lp(network.select_output(k), Box.cube(2), [1.0, 2.0]) for k in range(3)]
    call = ["lipschitz", str(tmp_path / "net.npz"), "--box", "-1", "1"]
    answer = CliRunner().invoke(app, [*call, "--all-outputs", "--p", "inf", "--p", "2", "--json"])
    assert answer.exit_code == 0, answer.output
    for document, q in zip(json.loads(answer.stdout), (1.0, 2.0), strict=True):
        values = [truth[q] for truth in truths]
        assert document["output"] == int(np.argmax(values))
        assert document["all_outputs"] is True
        assert document["lower"] == pytest.approx(max(values), rel=1e-9)
        assert document["status"] == "exact"
    table = CliRunner().invoke(app, [*call, "--all-outputs"])
    assert table.exit_code == 0
    assert f"output {int(np.argmax([truth[2.0] for truth in truths]))}" in table.output
    for wrong in (["--output", "1"], ["--margin", "0", "1"], ["--plot", "net.png"]):
        refused = CliRunner().invoke(app, [*call, "--all-outputs", *wrong])
        assert refused.exit_code == 2
        assert "--all-outputs excludes" in refused.output
    refused = CliRunner().invoke(app, call)
    assert refused.exit_code == 2
    assert "3 outputs" in refused.output
    assert "--all-outputs" in refused.output
