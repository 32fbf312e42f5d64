"""What a worker does with a share of a search: it searches below its nodes and hands over what it came to."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from cluster.execution.ray_actors import AbstractWorker
from cluster.execution.search.wire import Decisions, packed, shapes_of, unpacked
from solvers.lipschitz.bounds.alarm import alarm
from solvers.lipschitz.search.frontier import Frontier, Incumbent
from solvers.lipschitz.search.nodes import Expansion, Node
from solvers.problems.budget import Budget
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Witness

__all__ = ["Found", "PiecesOnDemand", "Question", "SearchWorker", "Task", "Workshop"]

# Splits below a node before its share's other nodes are compared again; fewer where every split leaves a proof.
STEPS, FIRST_STEPS, PROVED_STEPS = 64, 16, 64
# Leaves with proofs after which a worker hands over.
MOST_PROOFS = 8192
# Nodes that a worker remembers after it has handed them over, each of some kilobytes.
MOST_KEPT = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One search, the same for all its workers.

    Attributes:
        key: names it among all that a worker may have met.
        start_floor: directions that reach no further are left out (`bounds.directions`).
        recorded: whether a checker is to prove the bounds of nodes again.
    """

    key: str
    problem: LipschitzProblem
    start_floor: float
    relative_gap: float
    recorded: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A share of a search.

    Attributes:
        number: of the task in its search.
        nodes: to search below.
        lower, witness: the incumbent.
        seconds: to spend.
        keep: whether to keep proofs.
        slopes: whether to bound nodes by programs over slopes too.
    """

    number: int
    nodes: Decisions
    lower: float
    witness: Witness | None
    seconds: float
    keep: bool
    slopes: bool


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What became of a task: facts, and nodes that are still open.

    Attributes:
        facts: without nodes.
        witness: of the best gradient, if it is longer than the incumbent; to be proved again.
        cpu_seconds: that the search took.
    """

    nodes: Decisions
    facts: Expansion
    witness: Witness | None
    cpu_seconds: float


class _OnDemand(Sequence[Any]):
    """Something for each of `count` pieces, made when it is first wanted."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._made: dict[int, Any] = {}

    def _make(self, piece: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define _make")

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, piece: int) -> Any: ...
    @overload
    def __getitem__(self, piece: slice) -> Sequence[Any]: ...
    def __getitem__(self, piece: int | slice) -> Any:
        if isinstance(piece, slice):
            return [self[k] for k in range(*piece.indices(len(self)))]
        if piece not in self._made:
            self._made[piece] = self._make(piece)
        return self._made[piece]


class PiecesOnDemand(_OnDemand):
    """`PieceArrays` of a question's pieces, each made when it is first searched."""

    def __init__(self, question: Question) -> None:
        from solvers.lipschitz.bounds.directions import dual_directions

        problem = question.problem
        self.pieces = bounded_pieces(problem)
        super().__init__(len(self.pieces))
        self._directions = dual_directions(problem.network, problem.dual_p, question.start_floor)
        self._stop = np.zeros(1, dtype=np.int8)
        self._thorough = False

    def _make(self, piece: int) -> Any:
        from solvers.lipschitz.bounds.piece_arrays import PieceArrays

        made = PieceArrays.of(self.pieces[piece], self._directions, self._stop)
        return made.thorough() if self._thorough else made

    def look_closely(self) -> None:
        """Let linear programs look at every layer from now on, as where programs over slopes bound the nodes."""
        if not self._thorough:
            self._thorough = True
            self._made = {k: p.thorough() for k, p in self._made.items()}

    def follow(self, stop: NDArray[np.int8]) -> None:
        """Let compiled code look at this flag from now on."""
        self._stop = stop
        self._made = {k: replace(p, kernel=p.kernel._replace(stop=stop)) for k, p in self._made.items()}


class _Programs(_OnDemand):
    """`SlopeArrays` of pieces, each made when it is first searched with them."""

    def __init__(self, pieces: PiecesOnDemand, recorded: bool) -> None:
        super().__init__(len(pieces))
        self._pieces, self._recorded = pieces, recorded

    def _make(self, piece: int) -> Any:
        from solvers.lipschitz.search.slope_start import no_slopes, start_slopes

        program = start_slopes(self._pieces[piece], self._recorded)
        return no_slopes() if program is None else program[0]


class Workshop:
    """Searches tasks of one question; its arrays are made once."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._arrays = PiecesOnDemand(question)
        self._programs = _Programs(self._arrays, question.recorded)
        self._shapes = shapes_of(self._arrays.pieces)
        # Nodes that were handed over, with what does not travel, and the floor that directions were dropped for.
        self._kept: dict[tuple[int, bytes], tuple[float, Node]] = {}

    def search(self, task: Task) -> Found:
        """Search below the nodes of a task until all are done with or its time is up.

        What is found depends on the clock, but always holds.
        """
        begun = time.process_time()
        if task.slopes:
            self._arrays.look_closely()
        incumbent = Incumbent(self.question.problem, task.lower, task.witness)
        limits = Budget(task.seconds, relative_gap=self.question.relative_gap)
        frontier = Frontier(incumbent, limits, task.keep)
        for piece in self._arrays.pieces:
            frontier.add(piece)
        frontier.enter(
            Expansion(nodes=[self._known(node, frontier.floor) for node in unpacked(task.nodes, self._shapes)])
        )
        deadline = limits.start()
        # Something is done, however short the time: else nodes could go to and fro for ever.
        self._arrays.follow(np.zeros(1, dtype=np.int8))
        self._expand(frontier, FIRST_STEPS, task)
        with alarm(deadline) as stop:
            self._arrays.follow(stop)
            steps = 2 * FIRST_STEPS
            while frontier.open_nodes and frontier.proofs_kept <= MOST_PROOFS and not (deadline.is_over or stop[0]):
                self._expand(frontier, steps, task)
                steps *= 2
        better = incumbent.witness if incumbent.witness is not task.witness else None
        left = frontier.hand_over()
        self._keep(left.nodes, frontier.floor)
        return Found(*packed(left, self._shapes), better, time.process_time() - begun)

    def _known(self, node: Node, floor: float) -> Node:
        """A node that came, with all that is known of it here."""
        from solvers.lipschitz.search.expansion import node_of

        below, kept = self._kept.pop((node.piece, node.signs.tobytes()), (math.inf, node))
        if below <= floor:
            return replace(kept, bound=node.bound, split=node.split, path=node.path, codes=node.codes)
        p = self._arrays[node.piece]
        return node_of(p, node.piece, node.signs, node.bound, node.split, node.path, node.codes)

    def _keep(self, nodes: Sequence[Node], floor: float) -> None:
        """Remember nodes that may come back, the latest ones."""
        for node in nodes:
            self._kept[node.piece, node.signs.tobytes()] = floor, node
        for oldest in list(self._kept)[: max(0, len(self._kept) - MOST_KEPT)]:
            del self._kept[oldest]

    def _expand(self, frontier: Frontier, steps: int, task: Task) -> None:
        """Search below the open node with the largest bound, or bound it where it is not known how to split it."""
        from solvers.lipschitz.search.expansion import examine, expand

        taken = frontier.take(1)
        floor, lower = frontier.floor, frontier.incumbent.lower
        if taken and taken[0].split[0] < 0:
            frontier.enter(examine(taken[0], self._arrays, floor, lower, task.keep), taken)
        elif taken:
            most = min(steps, PROVED_STEPS if task.keep else STEPS)
            slopes = self._programs if task.slopes else ()
            found = expand(taken, self._arrays, floor, lower, most, task.keep, slopes=slopes)
            frontier.enter(found, taken)


class SearchWorker(AbstractWorker):
    """The actor: one CPU, one thread. It keeps the arrays of the question that it met last."""

    def __init__(self) -> None:
        from threadpoolctl import threadpool_limits

        threadpool_limits(limits=1)
        self._workshop: Workshop | None = None

    def warm_up(self) -> None:
        """Load the compiled kernels, so that no time limit counts that."""
        from solvers.lipschitz.branch_and_bound import BranchAndBound
        from solvers.networks.relu import ReluNetwork
        from solvers.problems.domains import Box

        network = ReluNetwork([[[1.0], [-1.0]], [[1.0, -2.0]]], [[0.0, 0.5], [0.0]])
        for solver in (BranchAndBound(threads=1), BranchAndBound(threads=1).certifying()):
            solver.solve(LipschitzProblem(network, 2.0, Box.cube(1)))

    def run(self, key: str, shared: list[Any], task: Task) -> Found:
        """Search a task of the question that `shared` holds a reference to."""
        import ray

        if self._workshop is None or self._workshop.question.key != key:
            self._workshop = Workshop(ray.get(shared[0]))
        return self._workshop.search(task)
