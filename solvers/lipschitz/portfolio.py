"""`auto`: the exact methods that fit the problem, in order, or the best bounds where none does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.propagation import undecided_neurons
from solvers.lipschitz.stages.choice import MOST_PROPAGATION, MOST_SEARCHED, Choice, choose, propagation_work, size_of
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status

__all__ = ["Portfolio"]

# Without a time limit a method ends after so many seconds for each problem, compilation not counted: `auto` never
# hangs.
PATIENCE = 300.0
# Of a method that is asked for a second opinion only, because rounding stopped another one.
MORE_PATIENCE = 30.0
# Of the time left, what goes to a method that another one can follow.
FIRST_SHARE = 0.6


@dataclass(frozen=True)
class Portfolio(AbstractLipschitzSolver):
    """Asks the methods that `stages.choice` names for every problem, until one closes the gap.

    `stats` holds the seconds of every method that ran, under its name (`branch_and_bound_seconds`); `method` names the
    one or two whose bounds are in the answer.

    Attributes:
        members: the methods to choose from.
        certified: go on until the upper bound has a certificate too.
    """

    members: tuple[AbstractLipschitzSolver, ...]
    certified: bool = False
    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "the exact method that fits, or the best bounds where none does"
    cost: ClassVar[str] = "what the methods cost that fit: milliseconds to minutes"
    gives: ClassVar[Gives] = Gives.BOTH
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True, members=tuple(member.certifying() for member in self.members))

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        deadline = budget.start()
        choices = [self._choice(problem) for problem in problems]
        plans = [choice.exact or choice.bounds for choice in choices]
        found: list[list[LipschitzBounds]] = [[] for _ in problems]
        for stage in range(max(map(len, plans), default=0)):
            waiting = [i for i, plan in enumerate(plans) if len(plan) > stage and not self._settled(found[i], budget)]
            for member in self.members:
                mine = [i for i in waiting if plans[i][stage] == member.name]
                if not mine:
                    continue
                following = max(len(plans[i]) - stage - 1 for i in mine)
                exact = any(choices[i].exact for i in mine)
                left = budget.within(_limit(deadline, len(mine) / len(waiting), len(mine), following, exact))
                answers = member.solve_batch([problems[i] for i in mine], budget=left, rngs=[rngs[i] for i in mine])
                for i, answer in zip(mine, answers, strict=True):
                    found[i].append(answer)
                waiting = [i for i in waiting if i not in mine]
        for i, (problem, rng) in enumerate(zip(problems, rngs, strict=True)):
            self._ask_others(problem, budget, deadline, rng, found[i])
        return [self._combined(*of, budget) for of in zip(problems, choices, found, strict=True)]

    def _ask_others(
        self,
        problem: LipschitzProblem,
        budget: Budget,
        deadline: Deadline,
        rng: np.random.Generator,
        answers: list[LipschitzBounds],
    ) -> None:
        """Where rounding stopped the methods that were chosen, the exact ones that were not: they round elsewhere."""
        asked = {answer.method for answer in answers}
        for member in self.members:
            troubled = any(answer.status is Status.NUMERICAL_TROUBLE for answer in answers)
            if not troubled or deadline.is_over or self._settled(answers, budget):
                return
            if member.exact and member.name not in asked and member.refuses(problem) is None:
                left = budget.within(min(deadline.remaining, MORE_PATIENCE))
                answers.append(member.solve(problem, budget=left, rng=rng))

    def _choice(self, problem: LipschitzProblem) -> Choice:
        size = size_of(problem)
        wide = size.undecided > MOST_SEARCHED and problem.network.depth > 0
        if wide and size.pieces == 1 and propagation_work(size) <= MOST_PROPAGATION:
            size = replace(size, undecided=undecided_neurons(problem))
        return choose(size, self.certified)

    def _settled(self, answers: Sequence[LipschitzBounds], budget: Budget) -> bool:
        """Whether the bounds found so far leave nothing to wish for."""
        if not answers:
            return False
        low = max(answer.lower for answer in answers)
        proved = [answer for answer in answers if answer.certificate is not None or not self.certified]
        return any(budget.is_closed(low, answer.upper) for answer in proved)

    def _combined(
        self, problem: LipschitzProblem, choice: Choice, answers: Sequence[LipschitzBounds], budget: Budget
    ) -> LipschitzBounds:
        """The best lower bound, and the best upper one; among upper ones that close the gap, one with a certificate."""
        low = max(answers, key=lambda answer: answer.lower)
        closed = [answer for answer in answers if budget.is_closed(low.lower, answer.upper)]
        certified = [answer for answer in closed if answer.certificate is not None]
        high = min(certified or answers, key=lambda answer: answer.upper)
        if closed:
            status, reason = Status.EXACT, high.reason
        else:
            troubled = [answer for answer in answers if answer.status is Status.NUMERICAL_TROUBLE]
            status = (troubled or answers)[-1].status if choice.exact else Status.BOUNDED
            reason = choice.reason or (f"{troubled[-1].method}: {troubled[-1].reason}" if troubled else high.reason)
            if status is Status.BUDGET_SPENT and math.isinf(budget.seconds) and budget.nodes is None:
                reason = f"without a time limit a method is given up after {PATIENCE:g} s: --time-limit allows more"
        stats = {**low.stats, **high.stats, "wall_seconds": 0.0}
        for answer in answers:
            seconds = answer.stats.get("wall_seconds", 0.0)
            stats[f"{answer.method.replace('-', '_')}_seconds"] = seconds
            stats["wall_seconds"] += seconds
        return LipschitzBounds(
            low.lower,
            high.upper,
            status,
            "+".join(dict.fromkeys([low.method, high.method])),
            problem.p,
            problem.domain,
            low.witness,
            high.certificate,
            stats,
            reason,
        )


def _limit(deadline: Deadline, share: float, problems: int, following: int, exact: bool) -> float:
    """Seconds for a method that takes a share of the problems that wait.

    Args:
        following: stages that come after this one. Exact methods follow where one has not closed the gap; of bounds
            every one is asked, so that they share the time.
    """
    if math.isinf(deadline.remaining):
        return PATIENCE * problems
    left = deadline.remaining * share
    if not exact:
        return left / (following + 1)
    return FIRST_SHARE * left if following else left
