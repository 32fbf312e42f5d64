"""Lower bounds from gradients at random points: any depth, any p, any domain.

max_i ||grad f(x_i)||_p' over points that `problems.random_points` draws. Loose where long gradients live in small
regions: in many dimensions, and in deep networks, random points hardly ever meet them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.arithmetic.norms import vector_norm
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.random_points import draw_points
from solvers.problems.results import LipschitzBounds, Status
from solvers.problems.witnesses import gradients_at, witness_bound

__all__ = ["Sampling"]

# Points of a block, and multiplications: so many take a fraction of a second.
BLOCK, BLOCK_WORK = 4096, 2**30


@dataclass(frozen=True)
class Sampling(AbstractLipschitzSolver):
    """The longest gradient at random points.

    Attributes:
        points: how many, unless the budget's `nodes` says another number.
    """

    points: int = 16384
    name: ClassVar[str] = "sampling"
    summary: ClassVar[str] = "lower bound from gradients at random points: any size, any p"
    cost: ClassVar[str] = "one gradient a point, exact arithmetic for the longest"
    gives: ClassVar[Gives] = Gives.LOWER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        wanted = self.points if budget.nodes is None else budget.nodes
        block = min(BLOCK, 1 + BLOCK_WORK // (2 * sum(w.size for w in problem.network.weights)))
        best, witness, drawn = 0.0, None, 0
        while drawn < wanted and not deadline.is_over:
            points = draw_points(problem.domain, min(block, wanted - drawn), problem.network, rng)
            drawn += len(points)
            norms = vector_norm(gradients_at(problem.network, points), problem.dual_p)
            # The longest may sit on a kink; the next ones then stand in.
            for k in np.argsort(-norms)[:8]:
                if norms[k] <= best:
                    break
                lower, found = witness_bound(problem, points[k])
                if found is not None and lower > best:
                    best, witness = lower, found
                    break
        status = Status.BUDGET_SPENT if drawn < wanted else Status.BOUNDED
        stats = {"points": float(drawn), "wall_seconds": deadline.elapsed}
        return LipschitzBounds(best, math.inf, status, self.name, problem.p, problem.domain, witness, None, stats)
