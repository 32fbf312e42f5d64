"""`auto`: the exact method that fits the problem, or the best bounds where none does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.budget import Budget
from solvers.domains import Box, WholeSpace
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.problems import LipschitzProblem
from solvers.results import LipschitzBounds, Status

__all__ = ["Portfolio"]

# Searches that may never end are started only on networks of up to this many neurons, and without a time limit they
# stop after this many seconds: `auto` never hangs.
SEARCHES = frozenset({"branch-and-bound", "region-enumeration"})
MOST_SEARCHED = 400
PATIENCE = 120.0


@dataclass(frozen=True)
class Portfolio(AbstractLipschitzSolver):
    """Asks the first exact method that takes a problem; where none does, all that bound it.

    Attributes:
        members: methods in order of preference.
    """

    members: tuple[AbstractLipschitzSolver, ...]
    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "the exact method that fits, or the best bounds where none does"
    gives: ClassVar[Gives] = Gives.BOTH
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        deadline = budget.start()
        found: dict[int, LipschitzBounds] = {}
        for member in self.members:
            if not member.exact:
                continue
            mine = [i for i, problem in enumerate(problems) if i not in found and self._takes(member, problem)]
            if mine:
                patience = PATIENCE * len(mine) if member.name in SEARCHES else math.inf
                left = Budget(min(deadline.remaining, patience), budget.nodes, budget.relative_gap)
                answers = member.solve_batch([problems[i] for i in mine], budget=left, rngs=[rngs[i] for i in mine])
                found.update(zip(mine, answers, strict=True))
        for i, problem in enumerate(problems):
            open_interval = i not in found or not budget.is_closed(found[i].lower, found[i].upper)
            if open_interval:
                left = Budget(deadline.remaining, budget.nodes, budget.relative_gap)
                found[i] = self._combined(problem, found.get(i), left, rngs[i])
        return [found[i] for i in range(len(problems))]

    def _takes(self, member: AbstractLipschitzSolver, problem: LipschitzProblem) -> bool:
        """Whether an exact method is the one for a problem."""
        if member.name in SEARCHES and sum(problem.network.widths) > MOST_SEARCHED:
            return False
        return member.refuses(problem) is None

    def _combined(
        self, problem: LipschitzProblem, start: LipschitzBounds | None, budget: Budget, rng: np.random.Generator
    ) -> LipschitzBounds:
        """The best of all bounds that methods give for a problem that is not solved exactly."""
        answers = [] if start is None else [start]
        for member in self.members:
            if not member.exact and member.refuses(problem) is None:
                answers.append(member.solve(problem, budget=budget, rng=rng))
        low = max(answers, key=lambda answer: answer.lower)
        high = min(answers, key=lambda answer: answer.upper)
        if budget.is_closed(low.lower, high.upper):
            status = Status.EXACT
        else:
            status = Status.BOUNDED if start is None else start.status
        method = "+".join(dict.fromkeys([low.method, high.method]))
        seconds = sum(answer.stats.get("wall_seconds", 0.0) for answer in answers)
        return LipschitzBounds(
            low.lower,
            high.upper,
            status,
            method,
            problem.p,
            problem.domain,
            low.witness,
            high.certificate,
            {**low.stats, **high.stats, "wall_seconds": seconds},
        )
