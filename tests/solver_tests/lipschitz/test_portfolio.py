"""`auto` never hangs, says what it did, shares the time fairly, and goes on until a bound is certified."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
from numba.core import event

from solvers.errors import UnsupportedProblemError
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.ascent import Ascent
from solvers.lipschitz.portfolio import Portfolio
from solvers.lipschitz.propagation import undecided_neurons
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.search import kept_proofs
from solvers.lipschitz.shallow import certificates as cell_certificates
from solvers.lipschitz.stages import choice as choices
from solvers.lipschitz.stages.choice import FIRST_SHARE, MOST_RATIO, PATIENCE, SEARCH_SHARE
from solvers.lipschitz.two_sided import TwoSided
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status, Witness
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, check_witness, verify_bounds
from tests.strategies import gaussian_network

AUTO = LIPSCHITZ_SOLVERS["auto"]
EXACT = {name for name, solver in LIPSCHITZ_SOLVERS.items() if solver.exact}


@pytest.fixture(autouse=True)
def short_climbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What climbs find in seconds is tested elsewhere."""
    monkeypatch.setattr(choices, "PATIENCE_OF_CLIMBS", 0.2)


def problem(sizes: list[int], p: float = 2.0, domain: Domain | None = None, seed: int = 0) -> LipschitzProblem:
    return LipschitzProblem(gaussian_network(sizes, np.random.default_rng(seed), 0.3), p, domain)


@pytest.mark.parametrize("domain", [WholeSpace(6), Box.cube(6)], ids=["global", "box"])
def test_a_wide_deep_network_in_few_dimensions_gets_bounds(domain: Domain) -> None:
    answer = AUTO.solve(problem([6, 300, 300, 1], domain=domain))
    assert answer.status is Status.BOUNDED
    assert not EXACT & set(answer.method.split("+"))
    assert 0 < MOST_RATIO * answer.lower < answer.upper < np.inf
    assert " hidden neurons may change sign on the domain, and above 400" in answer.reason
    assert ("smaller box" in answer.reason) == domain.is_bounded
    assert min(answer.stats[f"{name}_seconds"] for name in ("ascent", "semidefinite", "norm_product")) > 0


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
    # Three of four questions are for regions, with a search to follow; after that of the fourth there are bounds alone.
    assert seconds == pytest.approx((1000 * 0.75 * FIRST_SHARE, 1000 * SEARCH_SHARE, 1000.0), rel=1e-2)
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
    question = problem([2, 6, 1], math.inf)
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


@dataclass(frozen=True)
class Interval(AbstractLipschitzSolver):
    """Answers with an interval that it is given, and notes what it is told."""

    low: float
    high: float
    known: list[tuple[float, float]] = field(default_factory=list)
    name: ClassVar[str] = "ascent"
    summary: ClassVar[str] = "for tests"
    gives: ClassVar[Gives] = Gives.BOTH
    domains: ClassVar[tuple[type[Domain], ...]] = (WholeSpace, Box)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        if problem.known is not None:
            self.known.append((problem.known.lower, problem.known.upper))
        budget.start().tell(problem.p, self.low, self.high)
        witness = Witness(problem.domain.centre, (), np.zeros(problem.network.input_dimension))
        return LipschitzBounds(
            self.low, self.high, Status.BUDGET_SPENT, self.name, problem.p, problem.domain, witness,
            stats={"wall_seconds": 1.0},
        )  # fmt: skip


class IntervalOfProducts(Interval):
    name: ClassVar[str] = "norm-product"


class IntervalOfMultipliers(Interval):
    name: ClassVar[str] = "semidefinite"


class IntervalOfSearch(Interval):
    name: ClassVar[str] = "branch-and-bound"
    exact: ClassVar[bool] = True


WIDE = [6, 300, 300, 1]


def test_every_stage_keeps_the_interval_and_hands_it_on() -> None:
    told: list[tuple[float, float]] = []
    products, climbs = IntervalOfProducts(0.0, 180.0), Interval(100.0, math.inf)
    multipliers, search = IntervalOfMultipliers(0.0, 140.0), IntervalOfSearch(90.0, 287.0)
    portfolio = Portfolio((search, climbs, multipliers, products))
    budget = Budget(watch=lambda p, low, high: told.append((low, high)))
    answer = portfolio.solve(problem(WIDE), budget=budget)
    assert (answer.lower, answer.upper, answer.method) == (100.0, 140.0, "ascent+semidefinite")
    assert answer.status is Status.BUDGET_SPENT
    assert (climbs.known, multipliers.known, search.known) == ([(0.0, 180.0)], [(100.0, 180.0)], [(100.0, 140.0)])
    for (low, high), (lower, upper) in itertools.pairwise(told):
        assert low <= lower
        assert upper <= high
    assert told[-1] == (100.0, 140.0)


@pytest.mark.parametrize(("upper", "searched"), [(149.0, True), (151.0, False), (math.inf, False)])
def test_a_wide_network_is_searched_only_where_bounds_are_close(upper: float, searched: bool) -> None:
    search = IntervalOfSearch(101.0, 287.0)
    portfolio = Portfolio((search, Interval(100.0, math.inf), IntervalOfMultipliers(0.0, upper)))
    answer = portfolio.solve(problem(WIDE), budget=Budget(seconds=10.0))
    assert bool(search.known) == searched
    assert answer.lower == 100.0 + searched
    assert ("--time-limit" in answer.reason) == searched


def test_a_wide_network_has_what_time_is_left_for_climbs() -> None:
    climbs = Interval(100.0, math.inf)
    portfolio = Portfolio((climbs, IntervalOfMultipliers(0.0, 300.0)))
    portfolio.solve(problem(WIDE), budget=Budget(seconds=10.0))
    assert climbs.known == [(100.0, 300.0)]
    portfolio.solve(problem(WIDE))
    assert climbs.known == [(100.0, 300.0)]


def test_a_long_search_asks_for_bounds_and_goes_on_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    question = problem([6, 12, 12, 1], domain=Box.cube(6))
    alone = AUTO.solve(question)
    assert (alone.status, alone.method) == (Status.EXACT, "branch-and-bound")
    monkeypatch.setattr(choices, "ALONE_WORK", 1)
    told: list[tuple[float, float]] = []
    helped = AUTO.solve(question, budget=Budget(watch=lambda p, low, high: told.append((low, high))))
    assert helped.status is Status.EXACT
    assert {"ascent_seconds", "semidefinite_seconds", "branch_and_bound_seconds"} <= set(helped.stats)
    assert helped.upper - helped.lower <= 1e-6 * helped.upper
    assert helped.lower == pytest.approx(alone.lower, rel=2e-6)
    assert all(low <= lower and upper <= high for (low, high), (lower, upper) in itertools.pairwise(told))
    assert helped.stats["branch_and_bound_seconds"] > 0


def test_over_many_pieces_a_wide_network_is_not_searched_and_the_reason_says_so() -> None:
    search = IntervalOfSearch(101.0, 287.0)
    portfolio = Portfolio((search, Interval(100.0, math.inf), IntervalOfMultipliers(0.0, 110.0)))
    answer = portfolio.solve(problem([784, 256, 256, 1]))
    assert (search.known, answer.upper) == ([], 110.0)
    assert "512 hidden neurons" in answer.reason
    assert "1569 pieces" in answer.reason
    assert "a factor of 1.1 between them" in answer.reason
    assert "--starts" in answer.reason


def test_bounds_never_search() -> None:
    bounds = LIPSCHITZ_SOLVERS["bounds"]
    for sizes in ([3, 6, 1], [6, 12, 12, 1], WIDE):
        question = problem(sizes, domain=Box.cube(sizes[0]))
        answer = bounds.solve(question)
        assert not EXACT & {key.removesuffix("_seconds").replace("_", "-") for key in answer.stats}
        assert 0 < answer.lower <= answer.upper < math.inf
        if answer.status is not Status.EXACT:
            assert "auto" in answer.reason
        assert check_witness(question, answer.witness, answer.lower).holds
    certified = bounds.certifying().solve(problem(WIDE))
    assert certified.certificate is not None


def test_what_is_found_for_one_p_counts_before_the_next_method_is_asked() -> None:
    climbs, multipliers = Interval(0.0, math.inf), IntervalOfMultipliers(0.0, 140.0)
    questions = [problem(WIDE, p) for p in (2.0, math.inf)]
    portfolio = Portfolio((climbs, multipliers, IntervalOfProducts(0.0, 180.0)))
    portfolio.solve_batch(questions)
    assert climbs.known == [(0.0, 180.0), (0.0, 180.0)]
    climbs.known.clear()
    network = questions[0].network
    shared = [LipschitzProblem(network, p) for p in (1.0, math.inf)]
    portfolio = replace(portfolio, members=(climbs, ByExponent(0.0, 0.0)))
    portfolio.solve_together(shared)
    assert climbs.known == [(0.0, 10.0), (0.0, pytest.approx(60.0))]


class ByExponent(Interval):
    """10 for p = 1 and 10^6 for others."""

    name: ClassVar[str] = "norm-product"

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        found = super()._solve(problem, budget, rng)
        return replace(found, upper=10.0 if problem.p == 1 else 1e6)


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
        ("branch-and-bound", 1, 900.0 * SEARCH_SHARE),
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


def test_an_answer_that_closes_the_gap_stays_exact_where_its_tree_is_too_long_to_keep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_proofs, "MOST_LEAVES", 20)
    problem = LipschitzProblem(gaussian_network([5, 14, 10, 1], np.random.default_rng(3), 0.3), 2.0, Box.cube(5))
    members = tuple(LIPSCHITZ_SOLVERS[name] for name in ("branch-and-bound", "norm-product", "semidefinite"))
    answer = Portfolio(members).certifying().solve(problem)
    assert answer.status is Status.EXACT
    assert answer.certificate is None
    assert answer.stats["certified"] == 0
    assert "too long" in answer.reason


@pytest.mark.parametrize("name", ["auto", "bounds"])
def test_starts_reach_the_climbs_of_auto_and_bounds(name: str) -> None:
    points = np.array([[0.25, 0.5]])
    started = LIPSCHITZ_SOLVERS[name].certifying().starting_at(points)
    assert isinstance(started, Portfolio | TwoSided)
    climbs = [member for member in started.members if isinstance(member, Ascent)]
    assert [climb.starts.tolist() for climb in climbs if climb.starts is not None] == [points.tolist()]
    with pytest.raises(UnsupportedProblemError, match="2 coordinates"):
        started.solve(problem([3, 300, 300, 1]))
