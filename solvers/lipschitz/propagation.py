"""Upper bounds from propagation: ranges of pre-activations decide neurons, ranges of the Jacobian bound gradients.

On a box the ranges hold there; a global constant is the largest bound over the homogenised facets. The kernels, and
the papers they follow, are in `bounds.ranges`; branch and bound uses the same ones on parts of the domain.

Tight on boxes that few kinks cross. Loose where many neurons are undecided, for every layer then takes the worst of
each entry of the Jacobian by itself: by orders of magnitude on deep networks and all of R^d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import norm_product_bound
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.facets import each_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status

__all__ = ["Propagation", "propagation_bound", "undecided_neurons"]


def propagation_bound(problem: LipschitzProblem, deadline: Deadline | None = None) -> float:
    """A proved upper bound of Lip_p(f; X), rounded upward; inf for L = 0 and where the deadline passes first."""
    from solvers.lipschitz.bounds.alarm import alarm
    from solvers.lipschitz.bounds.directions import dual_directions
    from solvers.lipschitz.bounds.pattern_bounds import bound_piece
    from solvers.lipschitz.bounds.piece_arrays import PieceArrays

    if problem.network.depth == 0:
        return np.inf
    largest = 0.0
    directions = dual_directions(problem.network, problem.dual_p)
    deadline = Budget().start() if deadline is None else deadline
    with alarm(deadline) as stop:
        for piece in each_piece(problem):
            if deadline.is_over:
                return np.inf
            largest = max(largest, bound_piece(PieceArrays.of(piece, directions, stop)).bound)
    return largest


def undecided_neurons(problem: LipschitzProblem) -> int:
    """Hidden neurons that propagated ranges leave undecided on a domain that is its own bounded piece."""
    from solvers.lipschitz.bounds.pattern_bounds import bound_piece
    from solvers.lipschitz.bounds.piece_arrays import PieceArrays

    (piece,) = each_piece(problem)
    signs = bound_piece(PieceArrays.of(piece, None)).signs
    return sum(int((row[:n] == 0).sum()) for row, n in zip(signs, problem.network.widths, strict=True))


@dataclass(frozen=True)
class Propagation(AbstractLipschitzSolver):
    """Interval and linear relaxation through the network and back through its Jacobian; says nothing from below."""

    name: ClassVar[str] = "propagation"
    summary: ClassVar[str] = "upper bound from ranges of pre-activations and Jacobians: best on small boxes"
    cost: ClassVar[str] = "d N^2 a layer"
    gives: ClassVar[Gives] = Gives.UPPER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        upper = norm_product_bound(problem.network, problem.p, 0.2 * deadline.remaining)
        upper = min(upper, propagation_bound(problem, deadline))
        status = Status.EXACT if upper == 0 else Status.BOUNDED
        stats = {"wall_seconds": deadline.elapsed}
        return LipschitzBounds(0.0, upper, status, self.name, problem.p, problem.domain, None, None, stats)
