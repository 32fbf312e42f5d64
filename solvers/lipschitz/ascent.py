"""Lower bounds from climbs: many starts, softened slopes, small moves, and a walk from pattern to pattern.

Starts of many scales and sparsities are screened by the length of their gradients; the best and some others climb with
softened slopes; what is best then is moved by small steps while that gains, and on small networks improved neuron by
neuron. Rounds with fresh starts follow while they gain. Whatever is found counts only as a witness proves it.

Nothing says how far a bound is below the constant: on networks with more neurons than a few dozen it may miss patterns
that few points have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from solvers.arithmetic.devices import check_device
from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.climb.best_points import BestPoints
from solvers.lipschitz.climb.flips import FlipWalks
from solvers.lipschitz.climb.moves import moved_uphill
from solvers.lipschitz.climb.search_network import AnyArray, SearchNetwork, Towards, typical_distance
from solvers.lipschitz.climb.softened import Paces, softened_climb, towards_axes, towards_longer
from solvers.lipschitz.climb.starts import start_points
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status

__all__ = ["Ascent"]

# Points of the first round: screened, climbing, moved. Climbs get twice as long from round to round, and half as many.
SCREENED, CLIMBING, MOVED, TRIES = 4096, 96, 48, 32
CLIMB_STEPS, MOVE_ROUNDS, DOUBLINGS, FEWEST = 60, 40, 3, 8
# Points with different gradients that are kept.
KEPT = 24
# Neurons up to which more walks are worth more than longer climbs.
FEW_NEURONS = 100
# Rounds at most, and rounds without gain that end the search: one, and one more for every handful of neurons.
MOST_ROUNDS, PATIENCE, HANDFUL = 8, 4, 12
# Multiplications of a round, and of all: larger networks get fewer points. A step of a climb is six passes.
ROUND_WORK, ALL_WORK, PASSES = 2**35, 2**37, 6
# Inputs beyond which small moves of a point gain nothing that climbs do not.
MOST_MOVED = 64
# Times that the last points are moved at most.
POLISHED = 4
# Numbers in the arrays of one block, and multiplications.
MOST_NUMBERS, BLOCK_WORK = 2**23, 2**30
# Networks that walks are for; starts of walks in a round, those from the best points and those beside them; numbers in
# the linear programs of all rounds, and how many programs these are at least.
MOST_NEURONS, MOST_INPUTS = 320, 24
WALKS, BEST_WALKS, BESIDE_WALKS = 120, 4, 24
PROGRAM_NUMBERS, LEAST_PROGRAMS = 5_000_000, 12_000
# Half widths of the boxes that rounds search in R^d, in units of the typical distance of a kink from the origin.
REACHES = (2.0, math.inf, 8.0, 4.0)
# What counts as a gain.
WORTHWHILE = 1 + 1e-6


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

    def starting_at(self, points: FloatArray) -> Self:
        return replace(self, starts=points)

    def on_device(self, device: str) -> Self:
        check_device(device)
        return replace(self, device=device)

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
        self.budget = budget
        self.deadline = budget.start()
        self.best = BestPoints(problem, KEPT)
        self.screened = self.rounds = self.work = 0
        n, d = sum(problem.network.widths), problem.network.input_dimension
        self.programs = max(PROGRAM_NUMBERS // (n * (d + 1) or 1), LEAST_PROGRAMS)
        small = n <= MOST_NEURONS and d <= MOST_INPUTS
        self.walks = FlipWalks(problem, 0, self.deadline) if small else None
        self.most_screened = math.inf if budget.nodes is None else budget.nodes

    def run(self) -> bool:
        """Search and prove; whether the search came to its own end."""
        if self.deadline.is_over or self.most_screened == 0 or self.deadline.remaining < self.best.slowest:
            return False
        network, domain = self.problem.network, self.problem.domain
        if network.depth == 0:
            self.best.enter(domain.centre[None, :])
            self.best.prove(self.deadline, last=True)
            return True
        patience = min(PATIENCE, 1 + sum(network.widths) // HANDFUL)
        search, without = None, 0
        while self.rounds < MOST_ROUNDS and without < patience and self.work < ALL_WORK:
            before = self.best.longest
            where = self._part_of(domain)
            if search is None or where is not domain:
                search = SearchNetwork.of(network, where, self.method.device)
            self._round(search, where)
            self.rounds += 1
            if self._search_time().is_over or self.screened >= self.most_screened:
                break
            without = 0 if self.best.longest > before * WORTHWHILE else without + 1
        if search is not None and patience > 1 and search.unit.size <= MOST_MOVED:
            self._polish(search)
        self.best.prove(self.deadline, last=True)
        return not self._search_time().is_over and self.screened < self.most_screened

    def _polish(self, search: SearchNetwork) -> None:
        """Small moves of the best points for as long as they gain."""
        for _ in range(POLISHED):
            before = self.best.longest
            u = search.coordinates(self.best.points[:KEPT])
            u, values = moved_uphill(search, u, self.problem.dual_p, TRIES, MOVE_ROUNDS, self.rng, self._search_time())
            self._enter(search, u, values)
            if self.best.longest <= before * WORTHWHILE:
                return

    def _part_of(self, domain: Domain) -> Domain:
        """Where the next round searches: with biases, on boxes of several sizes before all of R^d.

        Most kinks are near the origin, and steps in proportion to the distance from it pass over those.
        """
        network, reach = self.problem.network, REACHES[self.rounds % len(REACHES)]
        if domain.is_bounded or network.is_homogeneous or math.isinf(reach):
            return domain
        return Box.around_origin(domain.dimension, reach * typical_distance(network))

    def _round(self, search: SearchNetwork, where: Domain) -> None:
        rng, q = self.rng, self.problem.dual_p
        n, d = sum(self.problem.network.widths), search.unit.size
        climb_steps, move_rounds = min(CLIMB_STEPS, 4 + n), min(MOVE_ROUNDS, 4 + n)
        wanted = 2 * SCREENED + PASSES * CLIMBING * climb_steps
        size = min(1.0, ROUND_WORK / (search.work * wanted))
        screened = min(max(64, int(size * SCREENED)), 32 * n * d)
        doubled = 2 ** min(self.rounds, DOUBLINGS) if n > FEW_NEURONS else 1
        climbing = max(FEWEST, min(int(size * CLIMBING), 8 * n) // doubled)
        again = search.coordinates(self.best.points[: climbing // 4])
        u = search.xp.concatenate([self._screen(search, where, screened, climbing - len(again)), again])
        self.best.prove(self.deadline)
        ends = []
        for towards, some in self._directions(search, u):
            paces = Paces.drawn(search, len(some), rng)
            u, values = softened_climb(search, some, q, towards, paces, climb_steps * doubled, self._search_time())
            self.work += search.work * PASSES * len(some) * climb_steps * doubled
            self._enter(search, u, values)
            ends.append(search.inputs(u))
        self.best.prove(self.deadline)
        moved = int(size * min(MOVED, n // 2)) if d <= MOST_MOVED else 0
        if not len(self.best.points):
            return
        if moved:
            # The best often lie side by side; ends of other climbs lie elsewhere.
            others = np.concatenate(ends)
            others = others[rng.permutation(len(others))[: moved - moved // 2]]
            u = search.coordinates(np.concatenate([self.best.points[: moved // 2], others]))
            self.work += search.work * 2 * moved * TRIES * move_rounds
            u, values = moved_uphill(search, u, q, TRIES, move_rounds, rng, self._search_time())
            self._enter(search, u, values)
        if self.walks is not None:
            self._walk(self.walks, where, np.concatenate(ends))
        self.best.prove(self.deadline)

    def _walk(self, walks: FlipWalks, where: Domain, climbed: FloatArray) -> None:
        """From the best points, from points beside them, from where climbs ended, and from anywhere."""
        problem, rng = self.problem, self.rng
        best = self.best.points[:BEST_WALKS]
        beside = best[rng.integers(0, len(best), BESIDE_WALKS)]
        sizes = 10.0 ** -rng.uniform(0.0, 2.0, (BESIDE_WALKS, 1)) * np.abs(beside).mean(axis=1, keepdims=True)
        beside = problem.domain.nearest(beside + sizes * rng.standard_normal(beside.shape))
        others = [
            climbed[rng.permutation(len(climbed))],
            start_points(where, len(climbed), problem.network, rng),
        ]
        starts = np.concatenate([best, beside, np.stack(others, axis=1).reshape(-1, climbed.shape[1])])
        walks.left = self.programs // MOST_ROUNDS
        found = []
        d = best.shape[1]
        for k, start in enumerate(starts[: min(WALKS, 8 * sum(problem.network.widths))]):
            if walks.is_over:
                break
            derivative = (k // 2) % (2 * d) - d if math.isinf(problem.dual_p) and k % 2 else None
            found.append(walks.walk(start, derivative))
        if found:
            self.best.enter(np.stack(found))

    def _search_time(self) -> Deadline:
        """What is left when a last proof has its time."""
        return self.budget.within(max(0.0, self.deadline.remaining - 2 * self.best.slowest)).start()

    def _screen(self, search: SearchNetwork, where: Domain, count: int, kept: int) -> AnyArray:
        """The best of many starts, and some others: (kept, d) in units of the search."""
        problem, q = self.problem, self.problem.dual_p
        count = int(min(count, self.most_screened - self.screened))
        block = 1 + min(MOST_NUMBERS // max(search.unit.size, *problem.network.widths), BLOCK_WORK // search.work)
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
                part = start_points(where, min(block, left), problem.network, self.rng)
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
        q = self.problem.dual_p
        # The Euclidean length is smoother than others, and what is long in it is long: every other round.
        plain = [(towards_longer(search, 2.0 if self.rounds % 2 else q), u)]
        if not math.isinf(q):
            return plain
        count, d = int(u.shape[0]), int(u.shape[1])
        gradients = search.fetch(search.gradients([(z > 0) * 1.0 for z in search.pre_activations(u)]))
        largest = np.abs(gradients).argmax(axis=1)
        signs = np.where(gradients[np.arange(count), largest] < 0, -1.0, 1.0)
        if 2 * d <= 4 * count:  # few enough to give each its turn
            turns = (np.arange(count) + self.rounds * count) % (2 * d)
            largest, signs = turns // 2, 1.0 - 2.0 * (turns % 2)
        axes = np.zeros((count, d))
        axes[np.arange(count), largest] = signs
        return [*plain, (towards_axes(search.put(axes)), u)]

    def _enter(self, search: SearchNetwork, u: AnyArray, values: AnyArray) -> None:
        order = np.argsort(-search.fetch(values), kind="stable")[: 2 * KEPT]
        self.best.enter(search.inputs(u)[order])
