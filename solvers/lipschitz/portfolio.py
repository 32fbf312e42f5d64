"""`auto`: exact methods where they may come to their end, bounds where not, and every stage keeps the interval.

What is found is handed on: each method is asked the problem with the best answer so far (`LipschitzProblem.known`), so
that no search looks at what is below a lower bound, and no answer is worse than an earlier one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.propagation import undecided_neurons
from solvers.lipschitz.stages.choice import (
    ASCENT,
    MOST_PROPAGATION,
    MOST_RATIO,
    MOST_SEARCHED,
    Choice,
    Stage,
    choose,
    propagation_work,
    size_of,
)
from solvers.lipschitz.stages.reasons import why_open
from solvers.lipschitz.stages.watching import narrowing
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import Help, LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.problems.shared_exponents import share_between_exponents

if TYPE_CHECKING:
    from solvers.lipschitz.search.kept_proofs import LeafFile

__all__ = ["Portfolio"]

NO_CERTIFICATE = "what closes the gap is too long to be kept as a certificate"
# Of a method that is asked for a second opinion only, because rounding stopped another one.
MORE_PATIENCE = 30.0
# Of what a search has left, what goes to the bounds that it asks for, each its share of it.
HELP_SHARE = 0.5
# Multiplications a second of ranges over a box, and the share of a time limit that they may take before any method.
RANGES_RATE, RANGES_SHARE = 10**8, 0.2


@dataclass(slots=True, eq=False)
class _Case:
    """One problem, the answer so far, and whose its ends are.

    Attributes:
        asked: the methods asked, each with its answer, in order.
        best: the answer so far; its lower bound is of the method `low`, its upper one of `high`.
        during: seconds of bounds that a search asked for while it ran.
    """

    problem: LipschitzProblem
    rng: np.random.Generator
    choice: Choice
    asked: list[tuple[Stage, LipschitzBounds]] = field(default_factory=list)
    best: LipschitzBounds | None = None
    low: str = ""
    high: str = ""
    during: float = 0.0

    def enter(self, stage: Stage, answer: LipschitzBounds, budget: Budget) -> None:
        """What a method answered, joined with the answer so far."""
        if stage.helped is not None and self.during:
            answer = replace(answer, stats={**answer.stats, "wall_seconds": answer.stats["wall_seconds"] - self.during})
        self.asked.append((stage, answer))
        if self.best is not None:
            answer = answer.joined(self.best, budget)
        if self.best is None or answer.lower > self.best.lower:
            self.low = stage.method
        if self.best is None or answer.upper != self.best.upper or answer.certificate is not self.best.certificate:
            self.high = stage.method
        self.best = replace(answer, method="+".join(dict.fromkeys([self.low, self.high])))

    def share(self, answer: LipschitzBounds) -> None:
        """The answer so far, improved by those to other p."""
        if answer is not self.best:
            names = answer.method.split("+")
            self.best, self.low, self.high = answer, names[0], names[-1]

    @property
    def troubled(self) -> LipschitzBounds | None:
        """The last answer of a method that rounding stopped."""
        stopped = [answer for _, answer in self.asked if answer.status is Status.NUMERICAL_TROUBLE]
        return stopped[-1] if stopped else None

    def has_asked(self, method: str) -> bool:
        return any(stage.method == method for stage, _ in self.asked)


@dataclass(frozen=True)
class Portfolio(AbstractLipschitzSolver):
    """Asks the methods that `stages.choice` names for every problem, until the gap is closed or none can narrow it.

    `stats` holds the seconds of every method that ran, under its name (`branch_and_bound_seconds`); `method` names the
    one or two whose bounds are in the answer.

    Attributes:
        members: the methods to choose from.
        certified: go on until the upper bound has a certificate too.
        together: what is found for one p counts for the others of a batch before the next method is asked.
    """

    members: tuple[AbstractLipschitzSolver, ...]
    certified: bool = False
    together: bool = False
    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "the exact method that fits, or the best bounds where none does"
    cost: ClassVar[str] = "what the methods cost that fit: milliseconds to minutes"
    gives: ClassVar[Gives] = Gives.BOTH
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True, members=tuple(member.certifying() for member in self.members))

    def keeping_leaves(self, file: LeafFile) -> Self:
        return replace(self, members=tuple(member.keeping_leaves(file) for member in self.members))

    def starting_at(self, points: FloatArray) -> Self:
        """The same method, whose climbs start from these points (k, d) too."""
        moved = (member.starting_at(points) if member.name == ASCENT else member for member in self.members)
        return replace(self, members=tuple(moved))

    def solve_together(
        self,
        problems: Sequence[LipschitzProblem],
        *,
        budget: Budget | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> list[LipschitzBounds]:
        helping = replace(self, together=True)
        return super(Portfolio, helping).solve_together(problems, budget=budget, rngs=rngs)

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        deadline = budget.start()
        once = Counter(problem.p for problem in problems)
        limits = replace(budget, watch=narrowing(budget.watch, {p for p, count in once.items() if count == 1}))
        cases = [
            _Case(problem, rng, self._choice(problem, deadline)) for problem, rng in zip(problems, rngs, strict=True)
        ]
        for turn in range(max((len(case.choice.stages) for case in cases), default=0)):
            waiting = [case for case in cases if self._wants(case, turn, limits, deadline)]
            left = len(waiting)
            for stage in dict.fromkeys(case.choice.stages[turn] for case in waiting):
                mine = [case for case in waiting if case.choice.stages[turn] == stage]
                self._ask(stage, mine, len(mine) / left, limits, deadline)
                left -= len(mine)
            if self.together and waiting:
                self._share([case for case in cases if case.best is not None], limits)
        for case in cases:
            self._ask_others(case, limits, deadline)
        return [self._concluded(case, limits, deadline) for case in cases]

    def _choice(self, problem: LipschitzProblem, deadline: Deadline) -> Choice:
        """The stages that members of this portfolio can take."""
        size = size_of(problem)
        wide = size.undecided > MOST_SEARCHED and problem.network.depth > 0
        most = min(MOST_PROPAGATION, RANGES_RATE * RANGES_SHARE * deadline.remaining)
        if wide and size.pieces == 1 and propagation_work(size) <= most:
            size = replace(size, undecided=undecided_neurons(problem))
        choice = choose(size, self.certified)
        names = {member.name for member in self.members}
        return replace(choice, stages=tuple(stage for stage in choice.stages if stage.method in names))

    def _wants(self, case: _Case, turn: int, budget: Budget, deadline: Deadline) -> bool:
        """Whether the method of that turn may still narrow the interval."""
        if turn >= len(case.choice.stages) or self._settled(case, budget):
            return False
        stage, best = case.choice.stages[turn], case.best
        if best is None:
            return True
        if stage.to_spare and math.isinf(budget.seconds):
            return False
        if deadline.is_over and math.isfinite(best.upper):
            return False
        if stage.if_close and not 0 < best.upper <= MOST_RATIO * best.lower:
            return False
        if stage.exact or stage.to_spare:
            return True
        # Bounds do not mend rounding, and count no nodes.
        vain = case.troubled or (budget.nodes is not None and case.choice.exact)
        return not vain and not case.has_asked(stage.method)

    def _ask(self, stage: Stage, cases: Sequence[_Case], share: float, budget: Budget, deadline: Deadline) -> None:
        """One method about some problems, which have that share of those that wait."""
        seconds = stage.patience * len(cases)
        if math.isfinite(deadline.remaining):
            seconds = deadline.remaining * share * stage.share
        (member,) = (member for member in self.members if member.name == stage.method)
        ask = member.solve_together if self.together else member.solve_batch
        problems = [case.problem.knowing(case.best, self._help(stage, case, budget)) for case in cases]
        answers = ask(problems, budget=budget.within(seconds), rngs=[case.rng for case in cases])
        for case, answer in zip(cases, answers, strict=True):
            case.enter(stage, answer, budget)
            assert case.best is not None
            Deadline(budget).tell(case.problem.p, case.best.lower, case.best.upper)

    def _help(self, stage: Stage, case: _Case, budget: Budget) -> Help | None:
        """The bounds that follow a search, for when it is not over soon."""
        if stage.helped is None or budget.nodes is not None:
            return None
        later = [one for one in case.choice.stages[1:] if not one.exact]

        def ask(deadline: Deadline) -> LipschitzBounds:
            before = len(case.asked)
            for one in later:
                if not self._settled(case, budget):
                    self._ask(one, [case], HELP_SHARE, budget, deadline)
            assert case.best is not None
            # Their seconds are the search's too: they count once.
            case.during = sum(answer.stats.get("wall_seconds", 0.0) for _, answer in case.asked[before:])
            return case.best

        return Help(stage.helped, ask) if later else None

    def _share(self, cases: Sequence[_Case], budget: Budget) -> None:
        """What is known for one p is known for all."""
        bests = [case.best for case in cases if case.best is not None]
        for case, answer in zip(cases, share_between_exponents([c.problem for c in cases], bests, budget), strict=True):
            case.share(answer)

    def _ask_others(self, case: _Case, budget: Budget, deadline: Deadline) -> None:
        """Where rounding stopped the methods that were chosen, the exact ones that were not: they round elsewhere."""
        for member in self.members:
            if not case.troubled or deadline.is_over or self._settled(case, budget):
                return
            if member.exact and not case.has_asked(member.name) and member.refuses(case.problem) is None:
                stage = Stage(member.name, patience=MORE_PATIENCE, exact=True)
                self._ask(stage, [case], min(1.0, MORE_PATIENCE / deadline.remaining), budget, deadline)

    def _settled(self, case: _Case, budget: Budget) -> bool:
        """Whether the bounds found so far leave nothing to wish for."""
        best = case.best
        if best is None or (self.certified and best.certificate is None):
            return False
        return budget.is_closed(best.lower, best.upper)

    def _concluded(self, case: _Case, budget: Budget, deadline: Deadline) -> LipschitzBounds:
        """The answer with what all methods tell of their work, and why it is open where it is."""
        best = case.best
        assert best is not None
        stats: dict[str, float] = {}
        seconds: dict[str, float] = {}
        for stage, answer in case.asked:
            stats |= answer.stats
            key = f"{stage.method.replace('-', '_')}_seconds"
            seconds[key] = seconds.get(key, 0.0) + answer.stats.get("wall_seconds", 0.0)
        stats |= {**seconds, "wall_seconds": sum(seconds.values())}
        if budget.is_closed(best.lower, best.upper):
            unproved = self.certified and best.certificate is None
            return replace(best, status=Status.EXACT, stats=stats, reason=NO_CERTIFICATE if unproved else "")
        searched = [answer.status for stage, answer in case.asked if stage.exact]
        status = searched[-1] if searched else Status.BOUNDED
        troubled = case.troubled
        if troubled:
            status, reason = Status.NUMERICAL_TROUBLE, f"{troubled.method}: {troubled.reason}"
        else:
            searches = any(member.exact for member in self.members)
            reason = why_open(case.problem, case.choice, [stage for stage, _ in case.asked], best, deadline, searches)
        return replace(best, status=status, stats=stats, reason=reason)
