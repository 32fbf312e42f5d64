"""Lower bounds from climbs: many starts, softened slopes, small moves, and a walk from pattern to pattern.

Starts of many scales and sparsities are screened by the length of their gradients; the best and some others climb with
softened slopes; what is best then is moved by small steps while that gains, and on small networks improved neuron by
neuron. Rounds with fresh starts follow while they gain. Whatever is found counts only as a witness proves it.

Nothing says how far a bound is below the constant: on networks with more neurons than a few dozen it may miss patterns
that few points have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.climb.best_points import BestPoints
from solvers.lipschitz.climb.flips import FlipWalks
from solvers.lipschitz.climb.moves import moved_uphill
from solvers.lipschitz.climb.search_network import AnyArray, SearchNetwork, Towards
from solvers.lipschitz.climb.softened import softened_climb, towards_axes, towards_longer
from solvers.lipschitz.climb.starts import start_points
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status

__all__ = ["Ascent"]

# Points of a round: screened, climbing, moved; passes of one point cost `SearchNetwork.work` multiplications.
SCREENED, CLIMBING, MOVED, TRIES = 4096, 96, 12, 32
CLIMB_STEPS, MOVE_ROUNDS = 60, 40
# Rounds at most, and rounds without gain that end the search.
MOST_ROUNDS, PATIENCE = 8, 3
# Multiplications of a round: larger networks get fewer points.
ROUND_WORK = 2**36
# Numbers in the arrays of one block.
MOST_NUMBERS = 2**23
# Networks that walks are for; starts of walks in a round, those from the best points and those beside them; numbers in
# the linear programs of all rounds.
MOST_NEURONS, MOST_INPUTS = 200, 24
WALKS, BEST_WALKS, BESIDE_WALKS = 120, 4, 24
PROGRAM_NUMBERS = 6_000_000


@dataclass(frozen=True)
class Ascent(AbstractLipschitzSolver):
    """The longest gradient that climbs from many points reach.

    `budget.nodes` limits the points that are screened.

    Attributes:
        starts: points (k, d) where climbs start besides those that are drawn, such as data; those outside of the domain
            are moved to its boundary.
        device: where the search computes: cpu, or a device of torch such as cuda. Proofs are made on the processor.
    """

    starts: FloatArray | None = None
    device: str = "cpu"
    name: ClassVar[str] = "ascent"
    summary: ClassVar[str] = "lower bound from climbs and flips of neurons: any size, any p"
    cost: ClassVar[str] = "some 10^4 gradients a round: a second on small networks"
    gives: ClassVar[Gives] = Gives.LOWER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def __post_init__(self) -> None:
        if self.starts is not None:
            points = np.array(self.starts, dtype=np.float64)
            if points.ndim != 2 or 0 in points.shape or not np.isfinite(points).all():
                raise InputError(f"starts must be finite points of shape (k, d), k >= 1, got shape {points.shape}")
            points.setflags(write=False)
            object.__setattr__(self, "starts", points)

    def refuses(self, problem: LipschitzProblem) -> str | None:
        d = problem.network.input_dimension
        if self.starts is not None and self.starts.shape[1] != d:
            return f"the starts have {self.starts.shape[1]} coordinates, the network d = {d} inputs"
        return super().refuses(problem)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        climb = _Climb(self, problem, budget, rng)
        finished = climb.run()
        best = climb.best
        status = Status.BOUNDED if finished else Status.BUDGET_SPENT
        stats = {
            "points": float(climb.screened),
            "rounds": float(climb.rounds),
            "wall_seconds": climb.deadline.elapsed,
        }
        return LipschitzBounds(
            best.lower, math.inf, status, self.name, problem.p, problem.domain, best.witness, None, stats
        )


class _Climb:
    """One solve under way."""

    def __init__(self, method: Ascent, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> None:
        self.method = method
        self.problem = problem
        self.rng = rng
        self.deadline: Deadline = budget.start()
        self.best = BestPoints(problem, 2 * MOVED)
        self.screened = self.rounds = 0
        n, d = sum(problem.network.widths), problem.network.input_dimension
        self.programs = PROGRAM_NUMBERS // (n * (d + 1) or 1)
        small = n <= MOST_NEURONS and d <= MOST_INPUTS
        self.walks = FlipWalks(problem, 0, self.deadline) if small else None
        self.most_screened = math.inf if budget.nodes is None else budget.nodes

    def run(self) -> bool:
        """Search and prove; whether the search came to its own end."""
        if self.deadline.is_over or self.most_screened == 0:
            return False
        network, domain = self.problem.network, self.problem.domain
        if network.depth == 0:
            self.best.enter(domain.centre[None, :])
            self.best.prove(self.deadline, last=True)
            return True
        search = SearchNetwork.of(network, domain, self.method.device)
        without = 0
        while self.rounds < MOST_ROUNDS and without < PATIENCE:
            before = self.best.lengths[0] if len(self.best.lengths) else 0.0
            self._round(search)
            self.rounds += 1
            if self.deadline.remaining <= self.best.slowest or self.screened >= self.most_screened:
                break
            gained = len(self.best.lengths) and self.best.lengths[0] > before * (1 + 1e-6)
            without = 0 if gained else without + 1
        self.best.prove(self.deadline, last=True)
        return not self.deadline.is_over and self.screened < self.most_screened

    def _round(self, search: SearchNetwork) -> None:
        rng, q = self.rng, self.problem.dual_p
        size = min(
            1.0, ROUND_WORK / (search.work * (SCREENED + 6 * CLIMBING * CLIMB_STEPS + MOVED * TRIES * MOVE_ROUNDS))
        )
        n, d = sum(self.problem.network.widths), search.unit.size
        screened = min(max(64, int(size * SCREENED)), 32 * n * d)
        climbing = min(max(16, int(size * CLIMBING)), 8 * n)
        u = self._screen(search, screened, climbing)
        self.best.prove(self.deadline)
        for towards, some in self._directions(search, u):
            u, values = softened_climb(search, some, q, towards, CLIMB_STEPS, self._search_time())
            self._enter(search, u, values)
            climbed = search.inputs(u)
        self.best.prove(self.deadline)
        moved = max(2, int(size * MOVED))
        if not len(self.best.points):
            return
        u, values = moved_uphill(
            search, search.coordinates(self.best.points[:moved]), q, TRIES, MOVE_ROUNDS, rng, self._search_time()
        )
        self._enter(search, u, values)
        if self.walks is not None:
            self._walk(self.walks, climbed)
        self.best.prove(self.deadline)

    def _walk(self, walks: FlipWalks, climbed: FloatArray) -> None:
        """From the best points, from points beside them, from where climbs ended, and from anywhere."""
        problem, rng = self.problem, self.rng
        best = self.best.points[:BEST_WALKS]
        beside = best[rng.integers(0, len(best), BESIDE_WALKS)]
        sizes = 10.0 ** -rng.uniform(0.0, 2.0, (BESIDE_WALKS, 1)) * np.abs(beside).mean(axis=1, keepdims=True)
        beside = problem.domain.nearest(beside + sizes * rng.standard_normal(beside.shape))
        others = [
            climbed[rng.permutation(len(climbed))],
            start_points(problem.domain, len(climbed), problem.network, rng),
        ]
        starts = np.concatenate([best, beside, np.stack(others, axis=1).reshape(-1, climbed.shape[1])])
        walks.left = self.programs // MOST_ROUNDS
        found = []
        d = best.shape[1]
        for k, start in enumerate(starts[:WALKS]):
            if walks.is_over:
                break
            derivative = (k // 2) % (2 * d) - d if math.isinf(problem.dual_p) and k % 2 else None
            found.append(walks.walk(start, derivative))
        if found:
            self.best.enter(np.stack(found))

    def _search_time(self) -> Deadline:
        return self.deadline

    def _screen(self, search: SearchNetwork, count: int, kept: int) -> AnyArray:
        """The best of many starts, and some others: (kept, d) in units of the search."""
        problem, q = self.problem, self.problem.dual_p
        count = int(min(count, self.most_screened - self.screened))
        block = max(1, MOST_NUMBERS // max(search.unit.size, *problem.network.widths))
        points: list[FloatArray] = []
        values: list[FloatArray] = []
        given = self.method.starts if self.method.starts is not None and self.rounds == 0 else search.centre[None, :]
        todo = [given[i : i + block] for i in range(0, len(given), block)]
        todo += [np.zeros((0, 0))] * math.ceil(count / block)
        left = count
        for part in todo:
            if self.deadline.is_over and points:
                break
            if not part.size:
                part = start_points(problem.domain, min(block, left), problem.network, self.rng)
                left -= len(part)
                self.screened += len(part)
            u = search.coordinates(part)
            found = search.fetch(search.values(u, q))
            order = np.argsort(-found, kind="stable")[:kept]
            points.append(search.fetch(u)[order])
            values.append(found[order])
        u, lengths = np.concatenate(points), np.concatenate(values)
        order = np.argsort(-lengths, kind="stable")
        self._enter(search, search.put(u[order[:kept]]), search.put(lengths[order[:kept]]))
        best, others = order[: kept - kept // 3], order[kept - kept // 3 :]
        others = self.rng.permutation(others)[: kept // 3]
        return search.put(u[np.concatenate([best, others])])

    def _directions(self, search: SearchNetwork, u: AnyArray) -> list[tuple[Towards, AnyArray]]:
        """How each of the points is to climb."""
        plain = [(towards_longer(search, self.problem.dual_p), u)]
        if not math.isinf(self.problem.dual_p):
            return plain
        count, d = int(u.shape[0]), int(u.shape[1])
        axes = np.zeros((count, d))
        chosen = (np.arange(count) + self.rounds * count) % (2 * d)
        axes[np.arange(count), chosen // 2] = 1.0 - 2.0 * (chosen % 2)
        return [*plain, (towards_axes(search.put(axes)), u)]

    def _enter(self, search: SearchNetwork, u: AnyArray, values: AnyArray) -> None:
        order = np.argsort(-search.fetch(values), kind="stable")[: 4 * MOVED]
        self.best.enter(search.inputs(u)[order])
