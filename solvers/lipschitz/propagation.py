"""Upper bounds from propagation: ranges of pre-activations decide neurons, ranges of the Jacobian bound gradients.

On a box the ranges hold there; a global constant is the largest bound over the homogenised facets. The kernels, and
the papers they follow, are in `bounds.ranges`; branch and bound uses the same ones on parts of the domain. Where they
leave neurons undecided, ranges carried backward decide more, and derivatives are bounded along lines too
(`bounds.relaxation`); of all bounds the least counts.

Tight on boxes that few kinks cross. Loose where many neurons are undecided, for every layer then takes the worst of
each entry of the Jacobian by itself: by orders of magnitude on deep networks and all of R^d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import norm_product_bound
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.facets import BoundedPiece, each_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status

if TYPE_CHECKING:
    from solvers.lipschitz.bounds.pattern_bounds import WholePiece
    from solvers.lipschitz.bounds.piece_arrays import PieceArrays

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
            arrays = PieceArrays.of(piece, directions, stop)
            whole = bound_piece(arrays)
            bound = whole.bound
            if largest < bound < np.inf:
                bound = min(bound, _relaxed_bound(piece, arrays, whole, deadline))
            largest = max(largest, bound)
    return largest


def _relaxed_bound(piece: BoundedPiece, arrays: PieceArrays, whole: WholePiece, deadline: Deadline) -> float:
    """A bound on a piece from ranges that are carried backward too, and from lines through the Jacobian."""
    from solvers.lipschitz.bounds.pattern_bounds import bound_gradients
    from solvers.lipschitz.bounds.relaxation.jacobians import jacobian_work, longest_gradient
    from solvers.lipschitz.bounds.relaxation.tightened import SURE_RATE, BoxLayers, Ranges, tighten

    network, box, signs = piece.network, piece.box, whole.signs.copy()
    places = [(m, slice(n)) for m, n in enumerate(network.widths)]
    mine = [signs[place] for place in places]
    ranges = Ranges(
        [whole.z_low[place].copy() for place in places], [whole.z_high[place].copy() for place in places], mine
    )
    layers = BoxLayers(network.weights[:-1], network.biases[:-1], box.lower, box.upper)
    tighten(layers, ranges, deadline=Budget(seconds=deadline.remaining / 2).start())
    bound = np.inf
    open_ = [m for m, part in enumerate(mine) if (part == 0).any()]
    if not (signs == whole.signs).all() and not deadline.is_over:
        chosen = np.arange(arrays.kernel.directions.shape[1], dtype=np.int32)
        bound, _, _ = bound_gradients(arrays, signs, open_[0] if open_ else len(mine), chosen, -np.inf)
    if open_ and jacobian_work(network.widths, piece.inputs.shape[1]) <= SURE_RATE * deadline.remaining:
        q, directions = piece.problem.dual_p, arrays.kernel.directions.T if arrays.kernel.dual else None
        parts = network.weights[1:-1], network.weights[-1][0], piece.inputs, mine
        bound = min(bound, longest_gradient(*parts, q, directions))
    return bound


def undecided_neurons(problem: LipschitzProblem) -> int:
    """Hidden neurons that propagated ranges leave undecided on a domain that is its own bounded piece."""
    from solvers.lipschitz.bounds.pattern_bounds import bound_piece
    from solvers.lipschitz.bounds.piece_arrays import PieceArrays

    (piece,) = each_piece(problem)
    signs = bound_piece(PieceArrays.of(piece, None)).signs
    return sum(int((row[:n] == 0).sum()) for row, n in zip(signs, problem.network.widths, strict=True))


@dataclass(frozen=True)
class Propagation(AbstractLipschitzSolver):
    """Intervals and lines through the network and back through its Jacobian; says nothing from below."""

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
