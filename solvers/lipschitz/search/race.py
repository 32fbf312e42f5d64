"""Searches of one problem beside each other: by neurons, by neurons of tightened layers, by boxes of inputs.

Which of them ends soonest no bound tells before: on a network of five inputs and six layers boxes are a hundred times
faster, on one of twelve inputs and two layers hopeless. So each gets a share of work, in splits and programs, not in
seconds; the ones that lag behind end, and what they proved of everything holds for the others. Then the shares double.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.slopes.kernels import SlopeArrays
from solvers.lipschitz.search.box_splits import BoxSplits, box_work
from solvers.lipschitz.search.expansion import expand
from solvers.lipschitz.search.frontier import Frontier, Incumbent
from solvers.lipschitz.search.nodes import Expansion, Node
from solvers.problems.budget import Deadline
from solvers.problems.facets import BoundedPiece

__all__ = ["Race", "Racer", "rivals"]

# Operations of a look at a box (`box_splits.box_work`) beyond which no box is looked at.
MOST_WORK = 10**8
# Undecided neurons up to which a box is left to the search over signs.
FEW = 24

# Splits of a round from which threads share them.
WORTH_SHARING = 32
# Shares of work, in looks at a box, and how they grow; races after which only the first one goes on.
FIRST_SHARE, GROWTH, RACES = 64.0, 2.0, 3
# Splits below every node of a round while others wait.
FEW_STEPS = 4
# What a split without programs, and a linear program, cost beside a look at a box.
NODE, PROGRAM = 0.2, 0.02
# A search whose distance from the lower bound is so many times the least one's lags behind.
BEHIND = 2.0


@dataclass(slots=True, eq=False)
class Racer:
    """One search: its frontier, and how its nodes are split.

    Attributes:
        piece: what all arrays are parts of, where `boxes` adds to them.
        boxes: of a search over boxes, whose arrays are its own.
        rounds: so far; known: pieces that the frontier knows.
    """

    frontier: Frontier
    arrays: Sequence[PieceArrays]
    slopes: Sequence[SlopeArrays]
    piece: BoundedPiece | None = None
    boxes: BoxSplits | None = None
    rounds: int = 0
    known: int = 0

    def go_on(self, incumbent: Incumbent, room: int, most_steps: int, threads: int) -> None:
        """One round from `room` nodes, and up to so many steps below each of them."""
        frontier = self.frontier
        # Short rounds first: the incumbent rises most in the beginning, and a short time limit is kept.
        steps = min(most_steps, 4 << min(self.rounds, 20))
        self.rounds += 1
        nodes = frontier.take(room)
        whole = [node for node in nodes if self.boxes is not None and node.split[0] < 0]
        if self.boxes is not None and whole:
            self.enter(self.boxes.halve(whole, frontier.floor, incumbent.lower, threads), whole)
            nodes = [node for node in nodes if node.split[0] >= 0]
        if nodes:
            sharing = threads if len(nodes) * steps >= WORTH_SHARING else 1
            keep = frontier.keeps_proofs
            found = expand(nodes, self.arrays, frontier.floor, incumbent.lower, steps, keep, sharing, self.slopes)
            frontier.enter(found, nodes)

    def enter(self, found: Expansion, nodes: Sequence[Node] = ()) -> None:
        """What became of boxes, the new ones among them, whose indices the frontier is to know."""
        assert self.piece is not None
        while self.known < len(self.arrays):
            self.known = self.frontier.add(self.piece) + 1
        self.frontier.enter(found, nodes)

    @property
    def behind(self) -> float:
        """How far its bound is from the lower one."""
        return max(0.0, self.frontier.highest - self.frontier.floor)


class Race:
    """The searches that still run; the first one alone until others join."""

    def __init__(self, first: Racer) -> None:
        """A race of one."""
        self.racers = [first]
        self.split_elsewhere = 0
        self._share = FIRST_SHARE
        self._races = 0
        self._begun: dict[int, float] = {}

    def join(self, racers: Sequence[Racer]) -> None:
        self.racers.extend(racers)
        self._begun = {id(one): self._work(one) for one in self.racers}

    def _work(self, racer: Racer) -> float:
        """Looks at boxes that its work so far is worth."""
        counts = racer.frontier.counts
        return counts["nodes"] * NODE + counts["slope_bounds"] + counts["lp_solves"] * PROGRAM

    def next_turn(self) -> Racer:
        """Whose turn it is: the one that has done least of its share; when all have, those that lag behind end."""
        if len(self.racers) == 1:
            return self.racers[0]
        done = [self._work(racer) - self._begun[id(racer)] for racer in self.racers]
        least = min(range(len(done)), key=done.__getitem__)
        if done[least] < self._share:
            return self.racers[least]
        self._races += 1
        self._share *= GROWTH
        best = min(racer.behind for racer in self.racers)
        ahead = [racer for racer in self.racers if racer.behind <= BEHIND * best]
        if self._races >= RACES:
            ahead = [min(self.racers, key=lambda racer: racer.behind)]
        for racer in self.racers:
            if racer not in ahead:
                self._end(racer, ahead)
        self.racers = ahead
        return min(ahead, key=self._work)

    def _end(self, racer: Racer, others: Sequence[Racer]) -> None:
        self.split_elsewhere += racer.frontier.counts["nodes"]
        for other in others:
            other.frontier.ceiling = min(other.frontier.ceiling, racer.frontier.upper)

    @property
    def winner(self) -> Racer:
        """A search that is done, else the one with the least bound."""
        return min(self.racers, key=lambda racer: (not racer.frontier.is_done, racer.frontier.upper))

    def steps(self, most: int) -> int:
        """Splits below a node in a round: few while a round is to be no larger than a share."""
        return min(most, FEW_STEPS) if len(self.racers) > 1 else most

    @property
    def is_done(self) -> bool:
        return any(racer.frontier.is_done for racer in self.racers)

    @property
    def nodes(self) -> int:
        """Nodes split by all searches."""
        return self.split_elsewhere + sum(racer.frontier.counts["nodes"] for racer in self.racers)

    @property
    def upper(self) -> float:
        return min((racer.frontier.upper for racer in self.racers), default=math.inf)


def rivals(
    piece: BoundedPiece, first: Racer, program: tuple[SlopeArrays, float], incumbent: Incumbent, deadline: Deadline
) -> list[Racer]:
    """Searches of the same piece that begin anew: by neurons once backward ranges have decided some, and by boxes."""
    (whole,) = first.arrays
    if box_work(whole) > MOST_WORK:
        return []
    slopes, bound = program
    bound = min(bound, first.frontier.upper)
    found = []
    for few in (math.inf, FEW):
        boxes = BoxSplits(whole, slopes, few)
        frontier = Frontier(incumbent, deadline.budget)
        frontier.ceiling = bound
        racer = Racer(frontier, boxes.arrays, boxes.slopes, piece, boxes)
        racer.enter(boxes.root(bound, frontier.floor, incumbent.lower))
        found.append(racer)
    return found
