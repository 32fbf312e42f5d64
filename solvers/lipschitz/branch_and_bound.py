"""Exact constants by branch and bound over activation patterns: any depth, any p, on boxes and on all of R^d.

A best-first queue holds nodes of all bounded pieces (`problems.facets`). Each round expands the nodes with the largest
bounds (`search.nodes.expand`, a pure function) and drops what cannot beat the incumbent. A node leaves the search only
by a proof: its bound, or multipliers that show it empty. So whenever the search stops, the largest bound among open
nodes, leaves without a witness and dropped nodes is an upper bound, and every gradient with a proved witness a lower.

Sources: LipBaB [BDR21] for branching on ReLU with symbolic bounds; `bounds.directions` for the dual view for p = inf,
`problems.regions` for the strict interior.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.threads import process_threads
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.norm_product import norm_product_bound, norm_product_certificate
from solvers.lipschitz.sampling import draw_points
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.facets import BoundedPiece, each_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status, Witness
from solvers.problems.witnesses import gradients_at, rounding_slack, witness_bound

if TYPE_CHECKING:
    from solvers.lipschitz.search.proofs import Leaf

__all__ = ["BranchAndBound"]

SAMPLES, FIRST_SAMPLES, MOST_AT_ONCE = 2048, 32, 512
WALKERS, STEPS, TRIES = 16, 12, 32
# Splits of a round from which threads share them.
WORTH_SHARING = 32
# Leaves of a certificate; a longer one is left out.
MOST_CERTIFIED = 50_000
# Of a certified bound: room for a checker that rounds in another order than the search.
ROOM = 1e-11


@dataclass(slots=True, eq=False)
class _Incumbent:
    """The best proved lower bound so far."""

    problem: LipschitzProblem
    lower: float = 0.0
    witness: Witness | None = None

    def offer(self, lower: float, witness: Witness | None) -> None:
        if witness is not None and lower > self.lower:
            self.lower, self.witness = lower, witness


@dataclass(slots=True, eq=False)
class _Proofs:
    """The leaves of every piece, as long as there are not too many of them."""

    leaves: list[list[Leaf]] = field(default_factory=list)
    count: int = 0

    @property
    def kept(self) -> bool:
        return self.count <= MOST_CERTIFIED

    def enter(self, proofs: Sequence[tuple[int, Leaf]]) -> None:
        self.count += len(proofs)
        if self.kept:
            for piece, leaf in proofs:
                self.leaves[piece].append(leaf)
        else:
            self.leaves.clear()

    def certificate(self) -> Certificate | None:
        from solvers.lipschitz.search.proofs import tree_of

        if not self.kept:
            return None
        return Certificate("search-tree", {"pieces": [tree_of(leaves) for leaves in self.leaves]})


@dataclass(frozen=True)
class BranchAndBound(AbstractLipschitzSolver):
    """Exact for any depth and p; under a budget the interval that is proved by then.

    Attributes:
        batch: nodes that a round starts from.
        steps: nodes split below each of them, depth first.
        threads: that share the nodes of a round; None for those of the process. The answer does not depend on it.
        certified: record the tree of splits as a certificate, up to MOST_CERTIFIED leaves; also of a search that was
            cut short, for the upper bound that it reached.
    """

    batch: int = 16
    steps: int = 64
    threads: int | None = None
    certified: bool = False
    name: ClassVar[str] = "branch-and-bound"
    summary: ClassVar[str] = "exact for any depth and p: branch and bound over activation patterns"
    gives: ClassVar[Gives] = Gives.BOTH
    exact: ClassVar[bool] = True
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        incumbent = _Incumbent(problem)
        product = norm_product_bound(problem.network, problem.p)
        certificate = None
        if problem.network.depth == 0:
            upper, stats = _affine(problem, incumbent), {"nodes": 0.0}
            finished = True
        elif budget.nodes == 0 or budget.seconds == 0:
            upper, stats, finished = product, {"nodes": 0.0}, False
        else:
            _sample(incumbent, rng, deadline)
            with _alarm(deadline) as stop:
                upper, finished, stats, certificate = self._search(problem, incumbent, budget, deadline, stop)
        if product <= upper or (self.certified and problem.network.depth == 0):
            upper = product
            certificate = norm_product_certificate(problem.network, problem.p) if self.certified else None
        upper = max(upper, incumbent.lower)
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
            certificate,
            {**stats, "wall_seconds": deadline.elapsed},
        )

    def _search(
        self,
        problem: LipschitzProblem,
        incumbent: _Incumbent,
        budget: Budget,
        deadline: Deadline,
        stop: NDArray[np.int8],
    ) -> tuple[float, bool, dict[str, float], Certificate | None]:
        """Upper bound, whether the search came to its end, statistics, certificate."""
        from solvers.lipschitz.bounds.directions import dual_directions
        from solvers.lipschitz.search.nodes import Expansion, Node, PieceArrays, expand, root_node
        from solvers.lipschitz.search.proofs import BOUNDED, Leaf

        pieces: list[BoundedPiece] = []
        slack = rounding_slack(problem.network, problem.dual_p)
        # Below this gap all bounds are rounding; a wider one that was asked for ends the search earlier.
        gap = budget.relative_gap if budget.relative_gap > 1e-6 else 1e-11
        queue: list[tuple[float, int, Node]] = []
        order = itertools.count()
        settled = 0.0
        counts = {"nodes": 0, "lp_solves": 0, "exact_checks": 0, "unsettled_leaves": 0}
        longest = 0
        proofs = _Proofs() if self.certified else None

        def close(node: Node) -> None:
            """A node that its bound is proof enough of."""
            nonlocal settled
            settled = max(settled, node.bound)
            if proofs is not None:
                proofs.enter([(node.piece, Leaf(node.path, BOUNDED))])

        def floor() -> float:
            return incumbent.lower * (1 + gap) + 16 * slack if incumbent.witness is not None else 0.0

        def enter(found: Expansion) -> None:
            nonlocal settled
            counts["nodes"] += found.expanded
            counts["lp_solves"] += found.programs
            counts["exact_checks"] += found.thin
            settled = max(settled, found.discarded)
            if proofs is not None:
                proofs.enter(found.proofs)
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
                close(node)

        directions = dual_directions(problem.network, problem.dual_p, floor())
        arrays: list[PieceArrays] = []
        for index, piece in enumerate(each_piece(problem)):
            if deadline.is_over:
                return math.inf, False, {"nodes": 0.0}, None
            pieces.append(piece)
            if proofs is not None:
                proofs.leaves.append([])
            arrays.append(PieceArrays.of(piece, directions, stop))
            if directions is None or len(directions):
                enter(root_node(arrays, index, floor(), incumbent.lower, proofs is not None and proofs.kept))
            elif proofs is not None:
                proofs.enter([(index, Leaf((), BOUNDED))])
        threads = self.threads or process_threads()
        finished = False
        rounds = 0
        while True:
            while queue and -queue[0][0] <= floor():
                close(heapq.heappop(queue)[2])
            if not queue:
                finished = True
                break
            if -queue[0][0] <= settled and not budget.is_closed(incumbent.lower, settled):
                finished = True  # a leaf that could not be settled is above all that is open
                break
            if deadline.is_over or stop[0] or (budget.nodes is not None and counts["nodes"] >= budget.nodes):
                break
            room = self.batch if budget.nodes is None else min(self.batch, budget.nodes - counts["nodes"])
            # Short rounds first: the incumbent rises most in the beginning, and a short time limit is kept.
            steps = min(self.steps, 4 << min(rounds, 20))
            if budget.nodes is not None:
                steps = min(steps, max(1, (budget.nodes - counts["nodes"]) // room))
            rounds += 1
            deadline.tell(problem.p, incumbent.lower, max(settled, -queue[0][0]))
            nodes: list[Node] = []
            while queue and len(nodes) < room:
                node = heapq.heappop(queue)[2]
                if node.bound <= floor():
                    close(node)
                    continue
                nodes.append(node)
            longest = max(longest, len(queue))
            keep = proofs is not None and proofs.kept
            sharing = threads if len(nodes) * steps >= WORTH_SHARING else 1
            enter(expand(nodes, arrays, floor(), incumbent.lower, steps, keep, sharing))
        # Directions are dropped one by one for staying below the floor.
        upper = max(settled, -queue[0][0] if queue else 0.0, floor())
        certificate = None
        if proofs is not None:
            proofs.enter([(node.piece, Leaf(node.path, BOUNDED)) for _, _, node in queue])
            certificate = proofs.certificate()
            if certificate is not None and 0 < upper < math.inf:
                upper = upper * (1 + ROOM) + 4 * slack
        stats = {
            **{name: float(count) for name, count in counts.items()},
            "pieces": float(len(pieces)),
            "longest_queue": float(longest),
        }
        if self.certified:
            stats["certified"] = float(certificate is not None)
        return upper, finished, stats, certificate


@contextlib.contextmanager
def _alarm(deadline: Deadline) -> Iterator[NDArray[np.int8]]:
    """A flag of shape (1,) that becomes 1 when the deadline passes, also while compiled code runs."""
    stop = np.zeros(1, dtype=np.int8)
    if math.isinf(deadline.remaining):
        yield stop
        return
    timer = threading.Timer(deadline.remaining, stop.fill, (1,))
    timer.daemon = True
    timer.start()
    try:
        yield stop
    finally:
        timer.cancel()


def _affine(problem: LipschitzProblem, incumbent: _Incumbent) -> float:
    """The constant of a network without hidden layers: one gradient everywhere."""
    piece = next(each_piece(problem))
    incumbent.offer(*piece.lower_bound(0.5 * (piece.box.lower + piece.box.upper)))
    gradient = problem.network.weights[0][0]
    if not gradient.any():
        return 0.0
    return float(vector_norm(gradient, problem.dual_p)) * (1 + 1e-14)


def _sample(incumbent: _Incumbent, rng: np.random.Generator, deadline: Deadline) -> None:
    """Gradients at random points, then a walk of the best ones with shrinking steps."""
    problem = incumbent.problem
    points, norms = np.empty((0, problem.network.input_dimension)), np.empty(0)
    count = FIRST_SAMPLES
    while len(points) < SAMPLES and not (len(points) and deadline.is_over):
        block = draw_points(problem.domain, count, problem.network, rng)
        lengths = vector_norm(gradients_at(problem.network, block), problem.dual_p)
        if not len(points):  # a witness even where time is short
            incumbent.offer(*witness_bound(problem, block[np.argmax(lengths)]))
        points, norms = np.concatenate([points, block]), np.concatenate([norms, lengths])
        count = min(2 * count, MOST_AT_ONCE)
    order = np.argsort(-norms)[:WALKERS]
    walkers, best = points[order], norms[order]
    spread: FloatArray = np.std(points, axis=0)
    for step in range(STEPS):
        if deadline.is_over:
            break
        steps = rng.standard_normal((len(walkers), TRIES, points.shape[1])) * spread * 0.5 * 0.6**step
        tries = walkers[:, None, :] + steps
        tries = problem.domain.nearest(tries)
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
