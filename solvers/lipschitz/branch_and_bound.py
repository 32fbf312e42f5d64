"""Exact constants by branch and bound over activation patterns: any depth, any p, on boxes and on all of R^d.

A best-first queue holds nodes of all bounded pieces (`solvers.facets`). Each round expands the nodes with the largest
bounds (`search_nodes.expand`, a pure function) and drops what cannot beat the incumbent. A node leaves the search only
by a proof: its bound, or multipliers that show it empty. So whenever the search stops, the largest bound among open
nodes, leaves without a witness and dropped nodes is an upper bound, and every gradient with a proved witness a lower.

Sources: Bhowmick, D'Souza and Raghavan 2021 (LipBaB) for branching on ReLU with symbolic bounds; the dual view for
p = inf and the strict interior are design, section 2.3.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.budget import Budget, Deadline
from solvers.domains import Box, WholeSpace
from solvers.facets import BoundedPiece, bounded_pieces
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.norm_product import norm_product_bound
from solvers.lipschitz.sampling import draw_points
from solvers.norms import FloatArray, vector_norm
from solvers.problems import LipschitzProblem
from solvers.results import LipschitzBounds, Status, Witness
from solvers.witnesses import gradients_at, rounding_slack, witness_bound

__all__ = ["BranchAndBound"]

SAMPLES = 2048
WALKERS, STEPS, TRIES = 16, 12, 32


@dataclass(slots=True, eq=False)
class _Incumbent:
    """The best proved lower bound so far."""

    problem: LipschitzProblem
    lower: float = 0.0
    witness: Witness | None = None

    def offer(self, lower: float, witness: Witness | None) -> None:
        if witness is not None and lower > self.lower:
            self.lower, self.witness = lower, witness


@dataclass(frozen=True)
class BranchAndBound(AbstractLipschitzSolver):
    """Exact for any depth and p; under a budget the interval that is proved by then.

    Attributes:
        batch: nodes that a round starts from.
        steps: nodes split below each of them, depth first.
    """

    batch: int = 16
    steps: int = 64
    name: ClassVar[str] = "branch-and-bound"
    summary: ClassVar[str] = "exact for any depth and p: branch and bound over activation patterns"
    gives: ClassVar[Gives] = Gives.BOTH
    exact: ClassVar[bool] = True
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        incumbent = _Incumbent(problem)
        product = norm_product_bound(problem.network, problem.p)
        if problem.network.depth == 0:
            upper, stats = _affine(problem, incumbent), {"nodes": 0.0}
            finished = True
        elif deadline.is_over or budget.nodes == 0:
            upper, stats, finished = product, {"nodes": 0.0}, False
        else:
            _sample(incumbent, rng, deadline)
            upper, finished, stats = self._search(problem, product, incumbent, budget, deadline)
        upper = max(min(upper, product), incumbent.lower)
        if budget.is_closed(incumbent.lower, upper):
            status = Status.EXACT
        else:
            status = Status.NUMERICAL_TROUBLE if finished else Status.BUDGET_SPENT
        return LipschitzBounds(
            incumbent.lower,
            upper,
            status,
            self.name,
            problem.p,
            problem.domain,
            incumbent.witness,
            None,
            {**stats, "wall_seconds": deadline.elapsed},
        )

    def _search(
        self, problem: LipschitzProblem, product: float, incumbent: _Incumbent, budget: Budget, deadline: Deadline
    ) -> tuple[float, bool, dict[str, float]]:
        """Upper bound, whether the search came to its end, statistics."""
        from solvers.lipschitz.directions import dual_directions
        from solvers.lipschitz.search_nodes import Expansion, Node, PieceArrays, expand, root_node

        pieces = bounded_pieces(problem)
        slack = rounding_slack(problem.network, problem.dual_p)
        # Below this gap all bounds are rounding; a wider one that was asked for ends the search earlier.
        gap = budget.relative_gap if budget.relative_gap > 1e-6 else 1e-11
        queue: list[tuple[float, int, Node]] = []
        order = itertools.count()
        settled = 0.0
        counts = {"nodes": 0, "lp_solves": 0, "exact_checks": 0, "unsettled_leaves": 0}
        longest = 0

        def floor() -> float:
            return incumbent.lower * (1 + gap) + 16 * slack if incumbent.witness is not None else 0.0

        def enter(found: Expansion) -> None:
            nonlocal settled
            counts["nodes"] += found.expanded
            counts["lp_solves"] += found.programs
            counts["exact_checks"] += found.thin
            settled = max(settled, found.discarded)
            for piece, point in found.candidates:
                incumbent.offer(*pieces[piece].lower_bound(point))
            for node in found.nodes:
                if node.split[0] < problem.network.depth:
                    heapq.heappush(queue, (-node.bound, next(order), node))
                    continue
                if not np.isnan(node.point).any():
                    incumbent.offer(*pieces[node.piece].lower_bound(node.point))
                if node.bound > floor():
                    counts["unsettled_leaves"] += 1
                settled = max(settled, node.bound)

        directions = dual_directions(problem.network, problem.dual_p, floor())
        arrays: list[PieceArrays] = []
        for index, piece in enumerate(pieces):
            if deadline.is_over:
                return product, False, {"nodes": 0.0}
            arrays.append(PieceArrays.of(piece, directions))
            if directions is None or len(directions):
                enter(root_node(arrays, index, floor(), incumbent.lower))
        finished = False
        rounds = 0
        while True:
            while queue and -queue[0][0] <= floor():
                settled = max(settled, -heapq.heappop(queue)[0])
            if not queue:
                finished = True
                break
            if -queue[0][0] <= settled and not budget.is_closed(incumbent.lower, settled):
                finished = True  # a leaf that could not be settled is above all that is open
                break
            if deadline.is_over or (budget.nodes is not None and counts["nodes"] >= budget.nodes):
                break
            room = self.batch if budget.nodes is None else min(self.batch, budget.nodes - counts["nodes"])
            # Short rounds first: the incumbent rises most in the beginning, and a short time limit is kept.
            steps = min(self.steps, 4 << min(rounds, 20))
            if budget.nodes is not None:
                steps = min(steps, max(1, (budget.nodes - counts["nodes"]) // room))
            rounds += 1
            nodes: list[Node] = []
            while queue and len(nodes) < room:
                bound, _, node = heapq.heappop(queue)
                if -bound <= floor():
                    settled = max(settled, -bound)
                    continue
                nodes.append(node)
            longest = max(longest, len(queue))
            enter(expand(nodes, arrays, floor(), incumbent.lower, steps))
        # Directions are dropped one by one for staying below the floor.
        upper = max(settled, -queue[0][0] if queue else 0.0, floor())
        stats = {
            **{name: float(count) for name, count in counts.items()},
            "pieces": float(len(pieces)),
            "longest_queue": float(longest),
        }
        return upper, finished, stats


def _affine(problem: LipschitzProblem, incumbent: _Incumbent) -> float:
    """The constant of a network without hidden layers: one gradient everywhere."""
    piece: BoundedPiece = bounded_pieces(problem)[0]
    incumbent.offer(*piece.lower_bound(0.5 * (piece.box.lower + piece.box.upper)))
    gradient = problem.network.weights[0][0]
    if not gradient.any():
        return 0.0
    return float(vector_norm(gradient, problem.dual_p)) * (1 + 1e-14)


def _sample(incumbent: _Incumbent, rng: np.random.Generator, deadline: Deadline) -> None:
    """Gradients at random points, then a walk of the best ones with shrinking steps."""
    problem = incumbent.problem
    points = draw_points(problem.domain, SAMPLES, problem.network, rng)
    norms = vector_norm(gradients_at(problem.network, points), problem.dual_p)
    order = np.argsort(-norms)[:WALKERS]
    walkers, best = points[order], norms[order]
    spread: FloatArray = np.std(points, axis=0)
    for step in range(STEPS):
        if deadline.is_over:
            break
        steps = rng.standard_normal((len(walkers), TRIES, points.shape[1])) * spread * 0.5 * 0.6**step
        tries = walkers[:, None, :] + steps
        if isinstance(problem.domain, Box):
            tries = np.clip(tries, problem.domain.lower, problem.domain.upper)
        flat = tries.reshape(-1, points.shape[1])
        lengths = vector_norm(gradients_at(problem.network, flat), problem.dual_p).reshape(len(walkers), TRIES)
        pick = np.argmax(lengths, axis=1)
        rows = np.arange(len(walkers))
        better = lengths[rows, pick] > best
        walkers = np.where(better[:, None], tries[rows, pick], walkers)
        best = np.maximum(best, lengths[rows, pick])
    for place in np.argsort(-best):
        if best[place] <= incumbent.lower:
            break
        incumbent.offer(*witness_bound(problem, walkers[place]))
    # A walker that ended on the boundary proves nothing; the points drawn do.
    for point, length in zip(points[order], norms[order], strict=True):
        if length > incumbent.lower:
            incumbent.offer(*witness_bound(problem, point))
