"""What every registered method must do, on every instance whose constant is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from solvers.arithmetic.norms import dual_exponent
from solvers.errors import UnsupportedProblemError
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.problems.budget import Budget
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import check_witness
from tests.clocks import LookedAtClock
from tests.references.instances import Instance, instances

P_VALUES = (1.0, 1.25, 1.5, 2.0, 4.0, math.inf)
ALL = instances()
methods = pytest.mark.parametrize("solver", LIPSCHITZ_SOLVERS.values(), ids=LIPSCHITZ_SOLVERS)
each_instance = pytest.mark.parametrize("instance", ALL, ids=[instance.name for instance in ALL])


def problems(instance: Instance) -> list[LipschitzProblem]:
    return [LipschitzProblem(instance.network, p, instance.domain) for p in P_VALUES]


@methods
@each_instance
def test_the_interval_holds_the_truth(solver: AbstractLipschitzSolver, instance: Instance) -> None:
    for problem in problems(instance):
        reason = solver.refuses(problem)
        if reason is not None:
            with pytest.raises(UnsupportedProblemError):
                solver.solve(problem)
            continue
        answer = solver.solve(problem)
        truth = instance.constant(dual_exponent(problem.p))
        assert answer.lower <= truth * (1 + 1e-14)
        assert answer.upper >= truth * (1 - 1e-14)
        if solver.exact:
            assert answer.status is Status.EXACT
            assert answer.upper - answer.lower <= solver.resolution * truth
        if Gives.UPPER not in solver.gives:
            assert math.isinf(answer.upper)


@methods
@each_instance
def test_witnesses_pass_the_checker(solver: AbstractLipschitzSolver, instance: Instance) -> None:
    for problem in problems(instance):
        if solver.refuses(problem) is None:
            answer = solver.solve(problem)
            check = check_witness(problem, answer.witness, answer.lower)
            assert check.holds, check.reason


@methods
@pytest.mark.parametrize("limits", [Budget(seconds=0.0), Budget(nodes=0), Budget(seconds=0.01)], ids=str)
def test_any_budget_gives_a_valid_interval(solver: AbstractLipschitzSolver, limits: Budget) -> None:
    for instance in ALL:
        for problem in problems(instance)[::2]:
            if solver.refuses(problem) is None:
                answer = solver.solve(problem, budget=limits)
                truth = instance.constant(dual_exponent(problem.p))
                assert answer.lower <= truth * (1 + 1e-14)
                assert answer.upper >= truth * (1 - 1e-14)


@methods
def test_the_same_seed_gives_the_same_answer(solver: AbstractLipschitzSolver) -> None:
    for instance in ALL[:6]:
        problem = problems(instance)[2]
        if solver.refuses(problem) is None:
            first, second = (solver.solve(problem, rng=np.random.default_rng(5)) for _ in range(2))
            assert (first.lower, first.upper) == (second.lower, second.upper)


@methods
def test_a_batch_answers_as_each_alone(solver: AbstractLipschitzSolver) -> None:
    some = [problem for instance in ALL for problem in problems(instance) if solver.refuses(problem) is None]
    together = solver.solve_batch(some)
    for problem, answer in zip(some, together, strict=True):
        alone = solver.solve(problem)
        assert (answer.lower, answer.upper, answer.status) == (alone.lower, alone.upper, alone.status)


@methods
def test_the_seconds_of_a_batch_are_shared_not_counted_again(solver: AbstractLipschitzSolver) -> None:
    """No answer is free, and together they cost no more than passed."""
    some = [problem for instance in ALL for problem in problems(instance) if solver.refuses(problem) is None][:24]
    with pytest.MonkeyPatch.context() as patch:
        clock = LookedAtClock(patch)
        answers = solver.solve_batch([*some, some[0]])
    shares = [answer.stats["wall_seconds"] for answer in answers]
    assert min(shares) > 0
    assert sum(shares) <= clock.now


@pytest.mark.parametrize("name", ["vertex-enumeration", "region-enumeration"])
def test_the_shares_of_a_pass_add_up_to_its_seconds(name: str) -> None:
    solver = LIPSCHITZ_SOLVERS[name]
    some = [problem for instance in ALL for problem in problems(instance) if solver.refuses(problem) is None]
    with pytest.MonkeyPatch.context() as patch:
        clock = LookedAtClock(patch)
        answers = solver.solve_batch([*some, some[0]])  # one question twice
    # The clock's first look is the start of the batch.
    assert math.fsum(answer.stats["wall_seconds"] for answer in answers) == pytest.approx(clock.now - 1, rel=1e-12)


@methods
@pytest.mark.parametrize("limits", [Budget(), Budget(nodes=0), Budget(seconds=0.0), Budget(relative_gap=0.0)], ids=str)
def test_what_is_not_exact_has_a_reason(solver: AbstractLipschitzSolver, limits: Budget) -> None:
    for instance in ALL[:8]:
        for problem in problems(instance)[::2]:
            if solver.refuses(problem) is None:
                answer = solver.solve(problem, budget=limits)
                assert answer.status is Status.EXACT or answer.reason
