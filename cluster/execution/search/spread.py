"""Branch and bound with its frontier in this process and its expansions on workers."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cluster.execution.search.checkpoint import Checkpoint, KeptSearch, question_digest
from cluster.execution.search.dealing import DEPTH, share_of
from cluster.execution.search.stopping import Stop
from cluster.execution.search.wire import packed, packed_nodes, shapes_of, unpacked
from cluster.execution.search.worker import Found, PiecesOnDemand, Question, Task
from solvers.lipschitz import branch_and_bound
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.search.frontier import Frontier, Incumbent, leaf_of
from solvers.lipschitz.search.nodes import Expansion, Node
from solvers.problems.budget import Budget, Deadline
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status
from solvers.problems.witnesses import SEARCH_ENOUGH, witness_bound

if TYPE_CHECKING:
    from cluster.execution.ray_actors import RayCalls
    from cluster.execution.search.pool import SearchPool
    from solvers.lipschitz._base import AbstractLipschitzSolver

__all__ = ["SpreadSearch", "Standing"]

WAIT_SECONDS, GRACE_SECONDS = 0.5, 0.5
# Of a time limit, what bounds may take before the search.
FIRST_SHARE = 0.3
# Of a task before it is known how nodes are bounded: all that are under way then are searched the other way.
UNDECIDED_SECONDS = 0.1
# Between two checkpoints; longer where writing one takes more than this share of the time.
CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 30.0, 0.02
# After which nodes are dealt again that were not heard of: their worker's machine may be gone.
OVERDUE_SECONDS = 60.0
# How often a single node is dealt again that ends its worker every time.
MOST_TRIES = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a spread search stands: nodes that are open, those at workers included, and workers."""

    open_nodes: int
    workers: int


@dataclass(frozen=True)
class SpreadSearch(BranchAndBound):
    """Branch and bound over a pool of workers: the same interval within the gap, whoever searches.

    Attributes:
        pool: where nodes are expanded; entered by the caller.
        checkpoint: what is kept on disk, and where an earlier search stopped.
        stop: tells that the user wants the interval so far.
        report: hears where the search stands.
        first: bounds each question here before it is searched, unless that went on before; None for nobody.
    """

    pool: SearchPool = field(kw_only=True)
    checkpoint: Checkpoint = field(kw_only=True)
    stop: Stop = field(kw_only=True)
    report: Callable[[Standing], None] | None = field(default=None, kw_only=True)
    first: AbstractLipschitzSolver | None = field(default=None, kw_only=True)

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        if self.first is None:
            return super()._solve_batch(problems, budget, rngs)
        deadline = budget.start()
        fresh = [self.checkpoint.find(question_digest(problem, budget.relative_gap)) is None for problem in problems]
        share = budget.within(FIRST_SHARE * budget.seconds)
        bounds = self.first.solve_together(
            list(itertools.compress(problems, fresh)), budget=share, rngs=list(itertools.compress(rngs, fresh))
        )
        rest = iter(bounds)
        known = [next(rest) if new else problem.known for problem, new in zip(problems, fresh, strict=True)]
        told = [problem.knowing(best) for problem, best in zip(problems, known, strict=True)]
        answers = super()._solve_batch(told, budget.within(deadline.remaining), rngs)
        return [
            answer if best is None else answer.joined(best, budget) for answer, best in zip(answers, known, strict=True)
        ]

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        answer = super()._solve(problem, budget, rng)
        lost = int(answer.stats.get("lost_nodes", 0))
        if answer.status is Status.EXACT or not (lost or self.stop.wanted):
            return answer
        reason = (
            f"{lost} node{'s' if lost > 1 else ''} ended every worker that searched below, most likely for want of "
            "memory: take fewer workers"
            if lost
            else "the search was stopped"
        )
        return replace(answer, status=Status.BUDGET_SPENT, reason=reason)

    def _search(
        self,
        incumbent: Incumbent,
        product: float,
        deadline: Deadline,
        stop: NDArray[np.int8],
        helped: list[LipschitzBounds],
    ) -> tuple[float, bool, dict[str, float], Certificate | None]:
        """As of branch and bound in one process."""
        problem, budget = incumbent.problem, deadline.budget
        key = question_digest(problem, budget.relative_gap)
        search = _Search(self, problem, incumbent, budget, self.checkpoint.find(key), key)
        enough = math.inf if problem.known is None else problem.known.upper
        if not self.certified:  # a tree of splits proves only what its leaves do
            search.frontier.ceiling = min(search.frontier.ceiling, product, enough)
        kept = time.monotonic()
        pause = CHECKPOINT_SECONDS
        while not (
            search.frontier.is_done
            or self.stop.wanted
            or deadline.is_over
            or search.nodes_left <= 0
            or budget.is_closed(incumbent.lower, enough)
        ):
            search.consider_slopes(deadline)
            search.deal(deadline.remaining)
            search.hear(min(WAIT_SECONDS, deadline.remaining))
            deadline.tell(problem.p, incumbent.lower, min(search.frontier.upper, enough))
            if self.report is not None:
                self.report(search.standing)
            if time.monotonic() - kept > pause:
                begun = time.monotonic()
                self.checkpoint.keep(key, search.state(deadline.elapsed))
                kept = time.monotonic()
                pause = max(CHECKPOINT_SECONDS, (kept - begun) / CHECKPOINT_SHARE)
        if deadline.is_over and not search.frontier.is_done:
            search.gather(GRACE_SECONDS)
        if self.checkpoint.path is not None:
            self.checkpoint.keep(key, search.state(deadline.elapsed))
        return search.conclude()


class _Search:
    """One frontier, and what of it is at the workers."""

    def __init__(
        self,
        settings: SpreadSearch,
        problem: LipschitzProblem,
        incumbent: Incumbent,
        budget: Budget,
        begun: KeptSearch | None,
        key: str,
    ) -> None:
        from solvers.lipschitz.bounds.directions import dual_directions

        self._settings, self._budget, self._incumbent = settings, budget, incumbent
        proved = settings.certified and (begun is None or begun.proved)
        self.frontier = Frontier(incumbent, budget, proved, settings.leaf_file)
        pieces = bounded_pieces(problem)
        self._shapes = shapes_of(pieces)
        for piece in pieces:
            self.frontier.add(piece)
        self._start_floor = self.frontier.floor if begun is None else begun.start_floor
        self._before = 0.0 if begun is None else begun.seconds
        self._slopes = None if begun is None else begun.slopes
        if begun is not None:
            if not settings.certified:
                self.frontier.ceiling = begun.ceiling
            if begun.point is not None:
                incumbent.offer(*witness_bound(problem, begun.point, SEARCH_ENOUGH))
            self.frontier.enter(replace(begun.facts, nodes=list(unpacked(begun.nodes, self._shapes))))
        else:
            directions = dual_directions(problem.network, problem.dual_p, self._start_floor)
            if directions is None or len(directions):
                self.frontier.enter(Expansion(nodes=[_root(k, shape) for k, shape in enumerate(self._shapes)]))
            else:
                for k in range(len(pieces)):
                    self.frontier.settle_piece(k)
        name = f"{key} {self._start_floor.hex()} {settings.certified}"
        self._question = Question(name, problem, self._start_floor, budget.relative_gap, settings.certified)
        self._calls: RayCalls[Task] = settings.pool.ask(self._question)
        self._out: dict[int, tuple[list[Node], float]] = {}
        self._tasks = 0
        self._tries: Counter[int] = Counter()
        self._facts = {"worker_cpu_seconds": 0.0, "tasks": 0.0, "lost_nodes": 0.0, "workers_died": 0.0}

    @property
    def nodes_left(self) -> float:
        """Splits that the budget still allows."""
        return math.inf if self._budget.nodes is None else self._budget.nodes - self.frontier.counts["nodes"]

    @property
    def standing(self) -> Standing:
        return Standing(self.frontier.open_nodes + self.frontier.away_nodes, self._settings.pool.workers)

    def consider_slopes(self, deadline: Deadline) -> None:
        """Ask once, when a search in one process would, whether nodes are bounded by programs over slopes too."""
        plain = branch_and_bound.plain_nodes(self.frontier.incumbent.problem)
        asked = self._slopes is not None or self.frontier.counts["nodes"] < plain
        if asked or math.isinf(self.frontier.highest):
            return
        arrays = list(PiecesOnDemand(self._question))
        _, programs, _ = branch_and_bound.with_slopes(self.frontier, arrays, deadline, self._settings.certified)
        if not deadline.is_over:
            self._slopes = len(programs) > 0

    def deal(self, seconds: float) -> None:
        """Send out tasks until every worker has its share; none is longer than the time that is left."""
        workers = self._settings.pool.workers
        if self._slopes is None:
            seconds = min(seconds, UNDECIDED_SECONDS)
        while len(self._out) < DEPTH * workers and self.frontier.open_nodes:
            share = share_of(self.frontier.open_nodes, workers)
            nodes = self.frontier.take(share.nodes)
            if nodes:
                self._send(nodes, min(share.seconds, seconds))
        now = time.monotonic()
        while self._out:
            number, (nodes, since) = next(iter(self._out.items()))  # the first that was sent
            if now - since <= OVERDUE_SECONDS:
                break
            # First come, first heard: an answer that comes late after all finds its nodes gone and is left alone.
            del self._out[number]
            self._send(nodes, share_of(self.frontier.open_nodes, workers).seconds)

    def _send(self, nodes: list[Node], seconds: float) -> None:
        number, self._tasks = self._tasks, self._tasks + 1
        incumbent = self._incumbent
        packed_up = packed_nodes(nodes, self._shapes)
        self._out[number] = nodes, time.monotonic()
        keep, slopes = self.frontier.keeps_proofs, self._slopes is True
        self._calls.add([Task(number, packed_up, incumbent.lower, incumbent.witness, seconds, keep, slopes)])

    def hear(self, seconds: float) -> None:
        """Wait for one answer, at most so long, and enter it."""
        outcome = self._calls.turn(seconds)
        if outcome is None or outcome.work.number not in self._out:
            return
        nodes, _ = self._out.pop(outcome.work.number)
        if outcome.death is not None:
            self._take_back(nodes, outcome.work.seconds)
            return
        found: Found = outcome.value
        self._facts["worker_cpu_seconds"] += found.cpu_seconds
        self._facts["tasks"] += 1
        if found.witness is not None:
            problem = self._incumbent.problem
            self._incumbent.offer(*witness_bound(problem, found.witness.point, SEARCH_ENOUGH))
        self.frontier.enter(replace(found.facts, nodes=list(unpacked(found.nodes, self._shapes))), nodes)

    def _take_back(self, nodes: list[Node], seconds: float) -> None:
        """Nodes whose worker died again and again: one by one, and in the end closed by the bounds that they have."""
        self._facts["workers_died"] += 1
        for node in nodes:
            self._tries[id(node)] += len(nodes) == 1
            if self._tries[id(node)] < MOST_TRIES:
                self._send([node], seconds)
            else:
                self._facts["lost_nodes"] += 1
                closed = Expansion(discarded=node.bound, proofs=[(node.piece, leaf_of(node))])
                self.frontier.enter(closed, [node])

    def gather(self, seconds: float) -> None:
        """Hear what workers have to say at the end of the time."""
        until = time.monotonic() + seconds
        while self._out and time.monotonic() < until:
            self.hear(until - time.monotonic())

    def state(self, seconds: float) -> KeptSearch:
        """For a checkpoint."""
        nodes, facts = packed(self.frontier.hand_over(), self._shapes)
        witness = self._incumbent.witness
        return KeptSearch(
            self._start_floor,
            None if witness is None else witness.point,
            nodes,
            facts,
            self.frontier.hands_over_proofs,
            self._before + seconds,
            self.frontier.ceiling,
            self._slopes,
        )

    def conclude(self) -> tuple[float, bool, dict[str, float], Certificate | None]:
        """Upper bound, whether the search came to its end, statistics, certificate."""
        finished = self.frontier.is_done and not self._facts["lost_nodes"]
        upper, certificate = self.frontier.conclude()
        stats = {**self.frontier.stats(), **self._facts, "workers": float(self._settings.pool.workers)}
        if self._before:
            stats["seconds_before"] = self._before
        if self._settings.certified:
            stats["certified"] = float(certificate is not None)
        return upper, finished, stats, certificate


def _root(piece: int, shape: tuple[int, int]) -> Node:
    """The whole of a piece, of which nothing is known."""
    signs = np.zeros(shape, dtype=np.int8)
    nothing = np.empty(0)
    return Node(piece, signs, nothing, nothing, math.inf, nothing, np.empty(0, dtype=np.int32), (-1, -1, 1))
