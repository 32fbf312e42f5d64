"""Lower bounds from gradients at random points: any depth, any p, any domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.problems.witnesses import gradients_at, witness_bound

__all__ = ["Sampling", "draw_points"]

BLOCK = 4096


def draw_points(domain: Domain, count: int, network: ReluNetwork, rng: np.random.Generator) -> FloatArray:
    """Points where gradients are worth a look: uniform on a box; on R^d at the scales where neurons switch.

    On R^d half of the points are Gaussian at log-uniform scales around the distances of the first layer's kinks from
    the origin, half lie next to a random kink of the first layer, on either side of it: cells are small there, and the
    far side of a distant kink is rarely reached otherwise.

    Returns:
        Shape (count, d).
    """
    d = domain.dimension
    if domain.is_bounded:
        return domain.draw(count, rng)
    w, b = network.weights[0], network.biases[0]
    lengths = np.sqrt((w**2).sum(axis=1))
    moving = lengths > 0
    distances = np.abs(b[moving] / lengths[moving])
    typical = float(np.median(distances)) if moving.any() and distances.any() else 1.0
    scales = typical * np.exp(rng.uniform(-3.0, 3.0, size=(count, 1)))
    points = rng.standard_normal((count, d)) * scales
    if moving.any():
        near = rng.integers(0, int(moving.sum()), size=count // 2)
        rows, offsets = w[moving][near], b[moving][near]
        half = points[: count // 2]
        height = ((half * rows).sum(axis=1) + offsets) / (rows**2).sum(axis=1)
        sides = rng.choice([-1e-3, 1e-3], size=count // 2)
        points[: count // 2] = half - (height * (1 + sides))[:, None] * rows
    return points


@dataclass(frozen=True)
class Sampling(AbstractLipschitzSolver):
    """The longest gradient at random points.

    Attributes:
        points: how many, unless the budget's `nodes` says another number.
    """

    points: int = 16384
    name: ClassVar[str] = "sampling"
    summary: ClassVar[str] = "lower bound from gradients at random points: any size, any p"
    gives: ClassVar[Gives] = Gives.LOWER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        wanted = self.points if budget.nodes is None else budget.nodes
        best, witness, drawn = 0.0, None, 0
        while drawn < wanted and not deadline.is_over:
            points = draw_points(problem.domain, min(BLOCK, wanted - drawn), problem.network, rng)
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
