"""Exact constants for p = 1 and p = inf by mixed-integer programs: any depth, on boxes and on all of R^d.

For p = 1 the constant is the largest of the 2d values max +-d_k f, for p = inf the largest ||grad f||_1; both are
linear in the model of `big_m_model`, on every bounded piece of the domain (`solvers.problems.facets`).

A solver's optimum is a lower bound only once its pattern has a proved interior, at a point that passes
`witness_bound`. A pattern without one is cut off, with all that share the reason, and the program is solved again
(`strict_interior`). What cannot be decided either way is cut off too and enters the upper bound. Upper bounds are the
solver's own, of programs that give every gradient room for its tolerances (`outward`), raised by SOLVER_ROOM, ten times
those tolerances, for its dual ones. Where the numbers of a network are far apart that room is wide, and so is the
answer; the bounds of propagation and of norms hold beside it.

Source: LipMIP [JD20]; `problems.regions` for the strict interior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np

from solvers.arithmetic.norms import vector_norm
from solvers.arithmetic.program_backends import check_backend, run_program
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.alarm import alarm
from solvers.lipschitz.bounds.norm_products import norm_product_bound
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.programs.big_m_model import GradientModel, Objective
from solvers.lipschitz.programs.strict_interior import Conflict, judge_pattern
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.facets import bounded_pieces, each_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import ActivationPattern
from solvers.problems.results import LipschitzBounds, Status, Witness
from solvers.problems.witnesses import rounding_slack, witness_bound

__all__ = ["MixedInteger"]

SOLVER_ROOM = 1e-8
# Gap left to the solver, and the improvement that a new incumbent must bring: together below 1e-7. The rest of the
# resolution is room for the solver's tolerances, which the steepest networks use most of.
SOLVER_GAP = 1e-9
LEAST_STEP = 4e-8
STEPS_BELOW = 1e-7
LEAST_SCALE = 2.0**-8
# Undecided neurons of a piece beyond which no program is written down: it would fill the memory and not end.
MOST_BINARIES = 1000


@dataclass(frozen=True)
class MixedInteger(AbstractLipschitzSolver):
    """Exact for p = 1 and p = inf up to a relative 1e-6; when time ends, the bounds that are proved by then.

    Attributes:
        backend: HIGHS, SCIP or GUROBI.
    """

    backend: str = "HIGHS"
    name: ClassVar[str] = "mixed-integer"
    summary: ClassVar[str] = "exact for p = 1 and p = inf, any depth: mixed-integer programs through cvxpy"
    exponents: ClassVar[str] = "1, inf"
    cost: ClassVar[str] = "exponential in undecided neurons, 2 d programs for p = 1"
    gives: ClassVar[Gives] = Gives.BOTH
    exact: ClassVar[bool] = True
    resolution: ClassVar[float] = 1e-6
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def with_program_solver(self, name: str) -> Self:
        check_backend(name)
        return replace(self, backend=name)

    def refuses(self, problem: LipschitzProblem) -> str | None:
        if problem.p != 1 and not math.isinf(problem.p):
            return "the length of a gradient is piecewise linear for p = 1 and p = inf only; ask branch-and-bound"
        return super().refuses(problem)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        check_backend(self.backend)
        search = _Search(problem, self.backend, budget, budget.start())
        if problem.network.depth == 0:
            piece = bounded_pieces(problem)[0]
            search.offer(*piece.lower_bound(0.5 * piece.box.lower + 0.5 * piece.box.upper))
            upper = float(vector_norm(problem.network.weights[0][0], problem.dual_p)) * (1 + 1e-14)
        elif search.is_over():
            upper = math.inf
        else:
            # The random points of branch and bound, walked uphill: only the lower bound is taken.
            start = BranchAndBound().solve(problem, budget=Budget(search.deadline.remaining, nodes=1), rng=rng)
            search.offer(start.lower, start.witness)
            upper = min(search.run(), start.upper)
        if 0 < upper < math.inf and search.lower == 0 and not search.is_over():
            # No tolerance tells a constant of 0 from a small one: whether it is 0 is settled by exact arithmetic.
            left = Budget(search.deadline.remaining, budget.nodes, budget.relative_gap)
            settled = BranchAndBound().solve(problem, budget=left, rng=rng)
            search.offer(settled.lower, settled.witness)
            upper = min(upper, settled.upper)
        upper = max(min(upper, norm_product_bound(problem.network, problem.p, 0.05 * budget.seconds)), search.lower)
        reason = ""
        if budget.is_closed(search.lower, upper):
            status = Status.EXACT
        elif search.is_over():
            status = Status.BUDGET_SPENT
        else:
            status = Status.BOUNDED if search.too_large else Status.NUMERICAL_TROUBLE
            reason = (
                f"more than {MOST_BINARIES} hidden neurons may change sign: too many for a program"
                if search.too_large
                else f"the numbers of this network are too far apart for the tolerances of {self.backend}:"
                " branch-and-bound needs none"
            )
        stats = {**{name: float(n) for name, n in search.counts.items()}, "wall_seconds": search.deadline.elapsed}
        return LipschitzBounds(
            search.lower, upper, status, self.name, problem.p, problem.domain, search.witness, None, stats, reason
        )


@dataclass(slots=True, eq=False)
class _Task:
    """One objective on one piece.

    Attributes:
        bound: of all its patterns that are not cut off.
        over: nothing more is to be done.
    """

    model: GradientModel
    objective: Objective
    bound: float
    over: bool = False


@dataclass(slots=True, eq=False)
class _Search:
    """The best witness so far, and what the solver has proved.

    Attributes:
        settled: a bound of all patterns that were cut off undecided.
        too_large: whether a piece was left at what propagation says.
    """

    problem: LipschitzProblem
    backend: str
    budget: Budget
    deadline: Deadline
    lower: float = 0.0
    witness: Witness | None = None
    settled: float = 0.0
    too_large: bool = False
    models: list[GradientModel] = field(default_factory=list)
    counts: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("programs", "nodes", "binaries", "phantoms", "undecided"), 0)
    )

    def offer(self, lower: float, witness: Witness | None) -> None:
        if witness is not None and lower > self.lower:
            self.lower, self.witness = lower, witness

    def is_over(self) -> bool:
        """Whether the budget is spent."""
        spent = self.budget.nodes is not None and self.counts["nodes"] >= self.budget.nodes
        return spent or self.deadline.is_over

    @property
    def slack(self) -> float:
        """Rounding of gradients that are multiplied out."""
        return 16 * rounding_slack(self.problem.network, self.problem.dual_p)

    @property
    def floor(self) -> float:
        """What a gradient must reach to be of interest."""
        wide = self.budget.relative_gap > 1e-6
        gap = self.budget.relative_gap - STEPS_BELOW if wide else LEAST_STEP
        return self.lower * (1 + gap) + (self.slack if self.witness is not None else 0.0)

    def run(self) -> float:
        """An upper bound; tasks with large bounds first, time shared among those that are open."""
        tasks: list[_Task] = []
        if self.problem.dual_p == 1:
            objectives = [Objective()]
        else:
            components = range(self.problem.network.input_dimension)
            objectives = [Objective(k, sign) for k in components for sign in (1.0, -1.0)]
        with alarm(self.deadline) as stop:
            for piece in each_piece(self.problem):
                if self.is_over():
                    return math.inf
                model = GradientModel(piece, stop)
                if not model.complete:
                    return math.inf
                self.models.append(model)
                self.counts["binaries"] += model.binaries
                large = model.binaries > MOST_BINARIES
                self.too_large |= large
                tasks += [_Task(model, one, model.bound(one), large) for one in objectives]
        tasks.sort(key=lambda task: -task.bound)
        waiting = [task for task in tasks if not task.over]
        while waiting and not self.is_over():
            for place, task in enumerate(waiting):
                self._work(task, self.deadline.remaining / (len(waiting) - place))
            waiting = [task for task in waiting if not task.over]
        upper = max(self.settled, *(task.bound for task in tasks))
        return upper + self.slack if upper > 0 else 0.0

    def _work(self, task: _Task, seconds: float) -> None:
        """Solve one task's program until its bound is met, or its share of the time is used."""
        share = Budget(seconds).start()
        while not (task.over or share.is_over or self.is_over()):
            floor = self.floor
            task.bound = min(task.bound, task.model.bound(task.objective))
            if task.bound <= max(floor, self.settled):
                task.over = True
                return
            if task.model.binaries == 0:
                self._judge(task, task.model.decided_pattern())
                task.over = True
                return
            scale = self._scale(task)
            program = task.model.build(task.objective, floor, task.bound, scale)
            nodes = None if self.budget.nodes is None else int(self.budget.nodes - self.counts["nodes"])
            answer = run_program(program.problem, self.backend, share.remaining, nodes, SOLVER_GAP)
            self.counts["programs"] += 1
            self.counts["nodes"] += answer.nodes
            # Infeasible: no pattern that is left reaches the floor.
            proved = max(floor, scale * answer.bound) + SOLVER_ROOM * scale
            task.bound = min(task.bound, proved)
            if answer.found:
                if self._judge(task, program.pattern()):
                    # With a better incumbent in smaller units a solver can do more.
                    task.over = answer.finished and self._scale(task) >= scale
            else:
                # Without a point and with time left, the solver has given up: asked again, it would do so again.
                task.over = answer.finished or not (share.is_over or self.is_over())

    def _scale(self, task: _Task) -> float:
        """Lengths are measured by the best one known, but by no less than a share of what is open."""
        known = self.lower if self.lower > 0 else task.bound
        return math.ldexp(1.0, math.frexp(max(known, LEAST_SCALE * task.bound))[1])

    def _judge(self, task: _Task, pattern: ActivationPattern) -> bool:
        """Take a pattern as a lower bound, or cut it off; whether it has a proved interior."""
        piece = task.model.piece
        length = float(vector_norm(piece.gradient(pattern), self.problem.dual_p))
        verdict = judge_pattern(piece, pattern)
        if verdict.point is not None:
            lower, witness = witness_bound(self.problem, piece.to_inputs(verdict.point))
            self.offer(lower, witness)
            if lower >= length * (1 - SOLVER_GAP) - self.slack:
                return True
        conflicts = list(verdict.conflicts)
        if conflicts:
            self.counts["phantoms"] += 1
        else:
            self.counts["undecided"] += 1
            self.settled = max(self.settled, length * (1 + 1e-14) + self.slack)
            conflicts = [
                Conflict(tuple((m, i, bool(on)) for m, layer in enumerate(pattern) for i, on in enumerate(layer)))
            ]
        fresh = [task.model.cut(conflict) for conflict in conflicts]
        for model in self.models:
            for conflict in conflicts:
                if conflict.everywhere and model is not task.model:
                    model.cut(conflict)
        # A pattern that is cut off came back: the solver's tolerances are at their end.
        task.over = not any(fresh)
        return False
