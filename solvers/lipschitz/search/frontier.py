"""What a search has open, what it has proved, what it has found: no clock, nothing compiled, no cluster.

Whoever expands nodes takes them from here and enters what became of them. A node leaves only by a proof: its bound, or
what its expansion proves. So at any moment the largest bound among nodes that are open or away, leaves without a
witness and dropped nodes is an upper bound, and every gradient with a proved witness a lower.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solvers.lipschitz.search.kept_proofs import Proofs
from solvers.lipschitz.search.nodes import Expansion
from solvers.lipschitz.search.proofs import BOUNDED, Leaf
from solvers.problems.budget import Budget
from solvers.problems.facets import BoundedPiece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, Witness
from solvers.problems.witnesses import rounding_slack

if TYPE_CHECKING:
    from solvers.lipschitz.search.kept_proofs import LeafFile
    from solvers.lipschitz.search.nodes import Node

__all__ = ["Frontier", "Incumbent", "leaf_of"]

# Of a certified bound: room for a checker that rounds in another order than the search.
ROOM = 1e-11
# Of the lower bound: the most that the floor lies above it for rounding, so that ties are not split to their leaves;
# the first where the gap that is asked for is at least four times as wide.
MOST_ROOM, LEAST_ROOM = 4e-9, 1e-10


@dataclass(slots=True, eq=False)
class Incumbent:
    """The best proved lower bound so far."""

    problem: LipschitzProblem
    lower: float = 0.0
    witness: Witness | None = None

    def offer(self, lower: float, witness: Witness | None) -> None:
        if witness is not None and lower > self.lower:
            self.lower, self.witness = lower, witness


class Frontier:
    """The open nodes of one search, largest bounds first.

    Attributes:
        incumbent: the best lower bound so far.
        counts: nodes split, linear programs, looks in exact arithmetic, leaves without a witness, programs over slopes,
            nodes that these dropped.
        ceiling: a bound of all gradients of all pieces that was proved elsewhere.
        longest: nodes open at once, at most, after some were taken.
    """

    def __init__(
        self, incumbent: Incumbent, budget: Budget, certified: bool = False, file: LeafFile | None = None
    ) -> None:
        problem = incumbent.problem
        self.incumbent = incumbent
        self.counts = dict.fromkeys(
            ("nodes", "lp_solves", "exact_checks", "unsettled_leaves", "slope_bounds", "slope_drops"), 0
        )
        self.ceiling = math.inf
        self.longest = 0
        self._budget = budget
        # Below this gap all bounds are rounding; a wider one that was asked for ends the search earlier.
        self._gap = budget.relative_gap if budget.relative_gap > 1e-6 else 1e-11
        self._depth = problem.network.depth
        self._slack = rounding_slack(problem.network, problem.dual_p)
        # Of a deep network, that product over all neurons is more than the answer; its nodes have bounds of their own.
        self._room = min(MOST_ROOM, max(0.25 * budget.relative_gap, LEAST_ROOM))
        self._pieces: list[BoundedPiece] = []
        self._proofs = Proofs(file=file) if certified else None
        self._queue: list[tuple[float, int, Node]] = []
        self._order = itertools.count()
        # Nodes that are away, by identity, with the turns in which they were taken; and their bounds, also of some that
        # came back: of thousands of nodes at many workers the largest bound is asked for again and again.
        self._away: dict[int, tuple[int, Node]] = {}
        self._away_bounds: list[tuple[float, int, int]] = []
        # The largest bound that no search lowers: of leaves, and of what was dropped.
        self._settled = 0.0

    def add(self, piece: BoundedPiece) -> int:
        """One more piece to search; the index that its nodes carry."""
        self._pieces.append(piece)
        if self._proofs is not None:
            self._proofs.add_piece()
        return len(self._pieces) - 1

    @property
    def keeps_proofs(self) -> bool:
        """Whether expansions are to come with proofs."""
        return self._proofs is not None and self._proofs.kept

    @property
    def floor(self) -> float:
        """Nodes with bounds up to here are of no interest."""
        if self.incumbent.witness is None:
            return 0.0
        lower = self.incumbent.lower
        return lower * (1 + self._gap) + min(16 * self._slack, self._room * lower)

    @property
    def upper(self) -> float:
        """A bound of all gradients of the pieces so far; directions are dropped one by one for staying below floors."""
        return min(max(self._settled, self.highest, self.floor), max(self.ceiling, self.incumbent.lower))

    @property
    def highest(self) -> float:
        """The largest bound among nodes that are open or away; 0 without any."""
        bounds = self._away_bounds
        while bounds and self._away.get(bounds[0][2], (-1,))[0] != bounds[0][1]:
            heapq.heappop(bounds)
        return max(-self._queue[0][0] if self._queue else 0.0, -bounds[0][0] if bounds else 0.0)

    @property
    def is_done(self) -> bool:
        """Whether no node that is open or away can move the bounds any more."""
        if not (self._queue or self._away) or self.ceiling <= self.floor:
            return True
        # A leaf that could not be settled is above all that is open.
        return self.highest <= self._settled and not self._budget.is_closed(self.incumbent.lower, self._settled)

    def take(self, room: int) -> list[Node]:
        """Up to `room` open nodes with the largest bounds, to be expanded: they are away until they are entered."""
        nodes: list[Node] = []
        while self._queue and len(nodes) < room:
            node = heapq.heappop(self._queue)[2]
            if node.bound <= self.floor:
                self._close(node)
            else:
                nodes.append(node)
                turn = next(self._order)
                self._away[id(node)] = turn, node
                heapq.heappush(self._away_bounds, (-node.bound, turn, id(node)))
        self.longest = max(self.longest, len(self._queue))
        return nodes

    def enter(self, found: Expansion, taken: Sequence[Node] = ()) -> None:
        """What became of nodes that were taken, or the root of a piece."""
        for node in taken:
            del self._away[id(node)]
        self.counts["nodes"] += found.expanded
        self.counts["lp_solves"] += found.programs
        self.counts["exact_checks"] += found.thin
        self.counts["slope_bounds"] += found.bounded
        self.counts["slope_drops"] += found.dropped
        self.counts["unsettled_leaves"] += found.unsettled
        self._settled = max(self._settled, found.discarded)
        if self._proofs is not None:
            self._proofs.enter(found.proofs)
        for piece, point in found.candidates:
            self.incumbent.offer(*self._pieces[piece].lower_bound(point))
        for node in found.nodes:
            if node.split[0] < self._depth:
                heapq.heappush(self._queue, (-node.bound, next(self._order), node))
                continue
            if not np.isnan(node.point).any():
                self.incumbent.offer(*self._pieces[node.piece].lower_bound(node.point))
            if node.bound > self.floor:
                self.counts["unsettled_leaves"] += 1
            self._close(node)
        while self._queue and -self._queue[0][0] <= self.floor:
            self._close(heapq.heappop(self._queue)[2])

    def settle_piece(self, piece: int) -> None:
        """A piece none of whose gradients reaches the floor in any direction."""
        if self._proofs is not None:
            self._proofs.enter([(piece, Leaf((), BOUNDED))])

    def _close(self, node: Node) -> None:
        """A node that its bound is proof enough of."""
        self._settled = max(self._settled, node.bound)
        if self._proofs is not None:
            self._proofs.enter([(node.piece, leaf_of(node))])

    def conclude(self) -> tuple[float, Certificate | None]:
        """The upper bound, and what proves it if proofs are kept; open nodes are closed by their bounds."""
        upper = self.upper
        if self._proofs is None:
            return upper, None
        open_nodes = [*(node for _, _, node in self._queue), *(node for _, node in self._away.values())]
        self._proofs.enter([(node.piece, leaf_of(node)) for node in open_nodes])
        certificate = self._proofs.certificate()
        if certificate is not None and 0 < upper < math.inf:
            upper = upper * (1 + ROOM) + 4 * self._slack
        return upper, certificate

    @property
    def open_nodes(self) -> int:
        """How many nodes can be taken."""
        return len(self._queue)

    @property
    def away_nodes(self) -> int:
        """How many were taken and have not been entered."""
        return len(self._away)

    @property
    def hands_over_proofs(self) -> bool:
        """Whether `hand_over` holds all proofs: not where they have gone to a file."""
        return self._proofs is not None and self._proofs.kept and self._proofs.spool is None

    @property
    def proofs_kept(self) -> int:
        """How many leaves with proofs it holds."""
        return 0 if self._proofs is None else self._proofs.count

    def hand_over(self) -> Expansion:
        """All that this search has come to, for another frontier of the same pieces to enter, or for a file.

        Nodes that are away count as open: what becomes of them has not been heard. Of the incumbent nothing is in it.
        """
        return Expansion(
            nodes=[
                *(node for _, _, node in sorted(self._queue, key=lambda entry: entry[:2])),
                *(node for _, node in self._away.values()),
            ],
            discarded=self._settled,
            proofs=[] if self._proofs is None else self._proofs.in_memory(),
            expanded=self.counts["nodes"],
            programs=self.counts["lp_solves"],
            thin=self.counts["exact_checks"],
            bounded=self.counts["slope_bounds"],
            dropped=self.counts["slope_drops"],
            unsettled=self.counts["unsettled_leaves"],
        )

    def stats(self) -> dict[str, float]:
        """Counts for an answer."""
        counts = {name: float(count) for name, count in self.counts.items()}
        return {**counts, "pieces": float(len(self._pieces)), "longest_queue": float(self.longest)}


def leaf_of(node: Node) -> Leaf:
    """Of a node that its bound is proof enough of."""
    return Leaf.by_bound(node.path, node.codes, node.signs.size)
