"""`auto` never hangs, says what it did, shares the time fairly, and goes on until a bound is certified."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from numba.core import event

from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.portfolio import FIRST_SHARE, PATIENCE, Portfolio
from solvers.lipschitz.propagation import undecided_neurons
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.shallow import certificates as cell_certificates
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, verify_bounds
from tests.strategies import gaussian_network

AUTO = LIPSCHITZ_SOLVERS["auto"]
EXACT = {name for name, solver in LIPSCHITZ_SOLVERS.items() if solver.exact}


def problem(sizes: list[int], p: float = 2.0, domain: Domain | None = None, seed: int = 0) -> LipschitzProblem:
    return LipschitzProblem(gaussian_network(sizes, np.random.default_rng(seed), 0.3), p, domain)


@pytest.mark.parametrize("domain", [WholeSpace(6), Box.cube(6)], ids=["global", "box"])
def test_a_wide_deep_network_in_few_dimensions_gets_bounds(domain: Domain) -> None:
    answer = AUTO.solve(problem([6, 300, 300, 1], domain=domain))
    assert answer.status is Status.BOUNDED
    assert not EXACT & set(answer.method.split("+"))
    assert 0 < answer.lower < answer.upper < np.inf
    assert answer.reason.startswith("too large to be exact: ")
    assert answer.stats["sampling_seconds"] > 0


def test_on_a_small_box_most_neurons_are_decided_and_a_wide_network_is_exact() -> None:
    network = gaussian_network([6, 300, 300, 1], np.random.default_rng(1), 0.3)
    small = LipschitzProblem(network, 2.0, Box.ball(np.full(6, 0.3), 1e-4))
    assert undecided_neurons(small) < 30
    assert undecided_neurons(LipschitzProblem(network, 2.0, Box.cube(6))) > 500
    answer = AUTO.solve(small)
    assert (answer.status, answer.method) == (Status.EXACT, "branch-and-bound")


@pytest.mark.parametrize(
    ("sizes", "method"),
    [([3, 6, 1], "vertex-enumeration"), ([2, 6, 5, 1], "region-enumeration"), ([5, 6, 5, 1], "branch-and-bound")],
    ids=str,
)
def test_it_says_what_it_did(sizes: list[int], method: str) -> None:
    answer = AUTO.solve(problem(sizes, domain=Box.cube(sizes[0])))
    assert (answer.status, answer.method, answer.reason) == (Status.EXACT, method, "")
    ran = {key for key in answer.stats if key.endswith("_seconds") and key != "wall_seconds"}
    assert ran == {f"{method.replace('-', '_')}_seconds"}
    assert answer.stats["wall_seconds"] == sum(answer.stats[key] for key in ran)


@dataclass(frozen=True)
class Recorder(AbstractLipschitzSolver):
    """Stands in for a search: notes its budgets, knows nothing."""

    label: str
    asked: list[tuple[str, int, float]] = field(default_factory=list)
    name: ClassVar[str] = "recorder"
    summary: ClassVar[str] = "for tests"
    gives: ClassVar[Gives] = Gives.UPPER
    domains: ClassVar[tuple[type[Domain], ...]] = (WholeSpace, Box)

    def _solve_batch(self, problems, budget, rngs):
        self.asked.append((self.name, len(problems), budget.seconds))
        stats = {"wall_seconds": 1.0}
        return [
            LipschitzBounds(0.0, math.inf, Status.BUDGET_SPENT, self.name, p.p, p.domain, stats=stats) for p in problems
        ]


class Regions(Recorder):
    name: ClassVar[str] = "region-enumeration"


class Search(Recorder):
    name: ClassVar[str] = "branch-and-bound"


def test_time_is_shared_by_problems_and_methods() -> None:
    asked: list[tuple[str, int, float]] = []
    portfolio = Portfolio((Regions("", asked), Search("", asked)))
    questions = [problem([2, 5, 4, 1], p) for p in (1.0, 2.0, math.inf)] + [problem([6, 5, 4, 1])]
    answers = portfolio.solve_batch(questions, budget=Budget(seconds=1000.0))
    names, counts, seconds = zip(*asked, strict=True)
    assert names == ("region-enumeration", "branch-and-bound", "branch-and-bound")
    assert counts == (3, 1, 3)
    # Three of four questions are for regions, with a search to follow; the search of the fourth has nothing after it.
    assert seconds == pytest.approx((1000 * 0.75 * FIRST_SHARE, 1000.0, 1000.0), rel=1e-2)
    assert [answer.stats["wall_seconds"] for answer in answers] == [2.0, 2.0, 2.0, 1.0]
    asked.clear()
    answers = portfolio.solve_batch(questions)
    assert [row[2] for row in asked] == [3 * PATIENCE, PATIENCE, 3 * PATIENCE]
    assert all("--time-limit" in answer.reason for answer in answers)


class OneByOne(Recorder):
    """Takes one problem at a time, and no time for it."""

    def _solve_batch(self, problems, budget, rngs):
        return AbstractLipschitzSolver._solve_batch(self, problems, budget, rngs)

    def _solve(self, problem, budget, rng):
        return Recorder._solve_batch(self, [problem], budget, [rng])[0]


def test_no_p_waits_for_another_one() -> None:
    solver = OneByOne("")
    solver.solve_batch([problem([2, 3, 1], p) for p in (1.0, 2.0, math.inf)], budget=Budget(seconds=900.0))
    assert [seconds for _, _, seconds in solver.asked] == pytest.approx([300.0, 450.0, 900.0], rel=1e-2)


@pytest.mark.parametrize("sizes", [[3, 6, 1], [2, 5, 4, 1], [5, 4, 4, 1]], ids=str)
@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
def test_certified_answers_are_proved_again(sizes: list[int], whole: bool) -> None:
    question = problem(sizes, domain=None if whole else Box.cube(sizes[0]))
    answer = AUTO.certifying().solve(question)
    assert answer.certificate is not None
    assert answer.certificate.kind == ("shallow-cells" if whole and len(sizes) == 3 else "search-tree")
    assert verify_bounds(question, answer).verdict is Verdict.PROVED


def test_where_one_method_makes_no_certificate_the_next_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_certificates, "MOST_CELLS", 3)
    question = problem([2, 6, 1])
    answer = AUTO.certifying().solve(question)
    assert answer.certificate is not None
    assert answer.certificate.kind == "search-tree"
    assert {"vertex_enumeration_seconds", "branch_and_bound_seconds"} <= set(answer.stats)
    assert answer.reason == ""
    assert verify_bounds(question, answer).verdict is Verdict.PROVED


@dataclass(frozen=True)
class Slow(Recorder):
    """Takes its time and compiles besides, on a clock that tests hold."""

    clock: list[float] = field(default_factory=list)
    seconds: float = 0.0
    compiles: float = 0.0

    def _solve_batch(self, problems, budget, rngs):
        with event.trigger_event("numba:compile"):
            self.clock[0] += self.compiles
        self.clock[0] += self.seconds
        return super()._solve_batch(problems, budget, rngs)


class SlowRegions(Slow):
    name: ClassVar[str] = "region-enumeration"


class SlowSearch(Slow):
    name: ClassVar[str] = "branch-and-bound"


@pytest.mark.parametrize("compiles", [0.0, 5000.0])
def test_shares_of_time_do_not_count_compilation(monkeypatch: pytest.MonkeyPatch, compiles: float) -> None:
    clock, asked = [0.0], list[tuple[str, int, float]]()
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    regions, search = (kind("", asked, clock, 100.0, compiles) for kind in (SlowRegions, SlowSearch))
    questions = [problem([2, 5, 4, 1], p) for p in (1.0, 2.0, math.inf)] + [problem([6, 5, 4, 1])]
    Portfolio((regions, search)).solve_batch(questions, budget=Budget(seconds=1000.0))
    assert asked == [
        # Three of four questions, with a search to follow; then the fourth alone; then what the three have left.
        ("region-enumeration", 3, 1000.0 * 0.75 * FIRST_SHARE),
        ("branch-and-bound", 1, 900.0),
        ("branch-and-bound", 3, 800.0),
    ]


def test_a_method_that_overruns_leaves_the_next_one_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], list[tuple[str, int, float]]()
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    portfolio = Portfolio((SlowRegions("", asked, clock, 2000.0), SlowSearch("", asked, clock)))
    answer = portfolio.solve(problem([2, 5, 4, 1]), budget=Budget(seconds=1000.0))
    assert [seconds for _, _, seconds in asked] == [1000.0 * FIRST_SHARE, 0.0]
    assert answer.status is Status.BUDGET_SPENT


@dataclass(frozen=True)
class Stopped(AbstractLipschitzSolver):
    """Stands in for an exact method that rounding stops."""

    name: ClassVar[str] = "branch-and-bound"
    summary: ClassVar[str] = "for tests"
    gives: ClassVar[Gives] = Gives.UPPER
    exact: ClassVar[bool] = True
    domains: ClassVar[tuple[type[Domain], ...]] = (WholeSpace, Box)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        return LipschitzBounds(0.0, 1e9, Status.NUMERICAL_TROUBLE, self.name, problem.p, problem.domain)


def test_auto_asks_the_other_exact_method_before_it_reports_trouble() -> None:
    question = LipschitzProblem(gaussian_network([5, 4, 4, 1], np.random.default_rng(0), 0.3), 2.0, Box.cube(5))
    alone = Portfolio((Stopped(),)).solve(question)
    assert alone.status is Status.NUMERICAL_TROUBLE
    assert alone.reason.startswith("branch-and-bound: ")
    both = Portfolio((RegionEnumeration(), Stopped())).solve(question)
    assert (both.status, both.method) == (Status.EXACT, "region-enumeration")
    assert {"branch_and_bound_seconds", "region_enumeration_seconds"} <= set(both.stats)
