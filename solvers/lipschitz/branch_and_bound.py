"""Exact constants by branch and bound over activation patterns: any depth, any p, on boxes and on all of R^d.

A best-first queue holds nodes of all bounded pieces (`search.frontier`). Each round expands the nodes with the largest
bounds (`search.expansion`, a pure function) and drops what cannot beat the incumbent; whenever the search stops, the
frontier holds a proved interval.

Nodes are bounded by ranges and the dual view. A search that these do not end soon is bounded by LipSDP-Neuron too,
first as a whole and, where that is far below, at every node with its decided neurons (`bounds.slopes.kernels`): with
p >= 2 a fraction of the nodes. In the dual view the signs of the last layer are coupled with the inputs that give them
(`bounds.relaxation.coupling`). Leaves of a certificate hold the multipliers that their bounds are from.

Sources: LipBaB [BDR21] for branching on ReLU with symbolic bounds; `bounds.directions` for the dual view for p = inf,
`problems.regions` for the strict interior.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.threads import process_threads
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.alarm import alarm
from solvers.lipschitz.bounds.norm_products import layer_spectra, norm_product_bound, norm_product_certificate
from solvers.lipschitz.search.frontier import Frontier, Incumbent
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.facets import each_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.random_points import draw_points
from solvers.problems.results import Certificate, LipschitzBounds, Status
from solvers.problems.witnesses import SEARCH_ENOUGH, gradients_at, witness_bound

if TYPE_CHECKING:
    from solvers.lipschitz.bounds.piece_arrays import PieceArrays
    from solvers.lipschitz.bounds.slopes.kernels import SlopeArrays
    from solvers.lipschitz.search.kept_proofs import LeafFile
    from solvers.lipschitz.search.race import Race

__all__ = ["BranchAndBound", "plain_nodes", "with_slopes"]

SAMPLES, FIRST_SAMPLES, MOST_AT_ONCE = 2048, 32, 512
WALKERS, WALK_STEPS, TRIES = 16, 12, 32
# Multiplications that all points at once may take: with those of a large network, a fraction of a second.
MOST_WORK = 2**30
# Nodes split, about half a second of work, until programs over slopes are asked for a bound of everything; the share of
# the search's own bound that it must stay below for nodes to be bounded by such programs too.
PLAIN, WORTH = 2000, 0.7
# Nodes, so many linear programs counted as one, after which other searches join, at least; the same times the
# multiplications that a node takes: small networks seldom gain by them, trained ones of three layers and more do.
RIVALS, LIGHT, RIVAL_WORK = 2000, 10, 2 * 10**8
# The same for one hidden layer, where such programs are small and any gain is worth them.
SHALLOW_PLAIN, SHALLOW_WORTH = 150, 1.5
# There a few walks from pattern to pattern are worth a tenth of a second then: points that they start from, the best of
# some; linear programs of all walks.
WALKS, WALK_DRAWS, WALK_PROGRAMS = 4, 256, 2000
# Inputs, and numbers in the flips of two neurons, up to which they do.
WALK_INPUTS, WALK_NUMBERS = 64, 2_000_000
# Seconds of climbs, and their share of the time that is left.
MOST_CLIMB, CLIMB_SHARE = 3.0, 0.1


@dataclass(frozen=True)
class BranchAndBound(AbstractLipschitzSolver):
    """Exact for any depth and p; under a budget the interval that is proved by then.

    Attributes:
        batch: nodes that a round starts from.
        steps: nodes split below each of them, depth first.
        threads: that share the nodes of a round; None for those of the process. The answer does not depend on it.
        certified: record the tree of splits as a certificate, if it is not too long (`search.proofs`); also of a search
            that was cut short, for the upper bound that it reached.
        leaf_file: where the leaves of a long certificate go; without one it is left out.
    """

    batch: int = 16
    steps: int = 64
    threads: int | None = None
    certified: bool = False
    leaf_file: LeafFile | None = None
    name: ClassVar[str] = "branch-and-bound"
    summary: ClassVar[str] = "exact for any depth and p: branch and bound over activation patterns"
    cost: ClassVar[str] = "exponential in undecided neurons; up to 400 worth a try"
    gives: ClassVar[Gives] = Gives.BOTH
    exact: ClassVar[bool] = True
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True)

    def keeping_leaves(self, file: LeafFile) -> Self:
        return replace(self, leaf_file=file)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        incumbent = Incumbent(problem)
        if problem.known is not None:
            incumbent.offer(problem.known.lower, problem.known.witness)
        spectra = layer_spectra(problem.network, 0.2 * budget.seconds)
        product = norm_product_bound(problem.network, problem.p, spectra=spectra)
        certificate = None
        helped: list[LipschitzBounds] = []
        if problem.network.depth == 0:
            upper, stats = _affine(problem, incumbent), {"nodes": 0.0}
            finished = True
        elif budget.nodes == 0 or budget.seconds == 0:
            upper, stats, finished = product, {"nodes": 0.0}, False
        else:
            if incumbent.witness is None:
                _sample(incumbent, rng, deadline)
            with alarm(deadline) as stop:
                upper, finished, stats, certificate = self._search(incumbent, product, deadline, stop, helped)
        if product <= upper or (self.certified and problem.network.depth == 0):
            upper = product
            certificate = norm_product_certificate(problem.network, problem.p, spectra) if self.certified else None
        upper = max(upper, incumbent.lower)
        if budget.is_closed(incumbent.lower, upper):
            status = Status.EXACT
        else:
            status = Status.NUMERICAL_TROUBLE if finished else Status.BUDGET_SPENT
        answer = LipschitzBounds(
            incumbent.lower,
            upper,
            status,
            self.name,
            problem.p,
            problem.domain,
            incumbent.witness,
            certificate,
            {**stats, "wall_seconds": deadline.elapsed},
            _trouble(stats) if status is Status.NUMERICAL_TROUBLE else "",
        )
        return answer.joined(helped[0], budget) if helped else answer

    def _search(
        self,
        incumbent: Incumbent,
        product: float,
        deadline: Deadline,
        stop: NDArray[np.int8],
        helped: list[LipschitzBounds],
    ) -> tuple[float, bool, dict[str, float], Certificate | None]:
        """Upper bound, whether the search came to its end, statistics, certificate; help asked for is added."""
        from solvers.lipschitz.bounds.directions import dual_directions
        from solvers.lipschitz.bounds.piece_arrays import PieceArrays
        from solvers.lipschitz.search.expansion import root_node
        from solvers.lipschitz.search.race import Race, Racer

        problem, budget = incumbent.problem, deadline.budget
        frontier = Frontier(incumbent, budget, self.certified, self.leaf_file)
        if not self.certified:  # a tree of splits proves only what its leaves do
            frontier.ceiling = product
        directions = dual_directions(problem.network, problem.dual_p, frontier.floor)
        arrays: list[PieceArrays] = []
        for piece in each_piece(problem):
            if deadline.is_over:
                return math.inf, False, {"nodes": 0.0}, None
            index = frontier.add(piece)
            arrays.append(PieceArrays.of(piece, directions, stop))
            if directions is None or len(directions):
                frontier.enter(root_node(arrays, index, frontier.floor, incumbent.lower, frontier.keeps_proofs))
            else:
                frontier.settle_piece(index)
        threads = self.threads or process_threads()
        enough = math.inf if problem.known is None else problem.known.upper
        race = Race(Racer(frontier, arrays, ()))
        asked = joined = climbed = False
        programs: Sequence[tuple[SlopeArrays, float]] = ()
        while not race.is_done:
            left = math.inf if budget.nodes is None else budget.nodes - race.nodes
            if problem.help and not helped and problem.help.is_due(race.nodes, deadline):
                helped.append(problem.help.ask(deadline))
                incumbent.offer(helped[0].lower, helped[0].witness)
                enough = min(enough, helped[0].upper)
            if deadline.is_over or stop[0] or left <= 0 or budget.is_closed(incumbent.lower, enough):
                break
            due = not joined and _rivals_due(frontier)
            if not asked and (due or frontier.counts["nodes"] >= plain_nodes(problem)):
                if problem.network.depth == 1:
                    _walk(incumbent, deadline)
                (first,) = race.racers
                first.arrays, first.slopes, programs = with_slopes(frontier, first.arrays, deadline, self.certified)
                asked = True
            if due:
                self._join(race, programs, incumbent, deadline)
                joined = True
            elif joined and not climbed and len(race.racers) == 1 and race.racers[0].frontier is not frontier:
                # A rival goes on alone, and its bounds wait for a lower one; `auto` has climbed by now.
                if problem.known is None and problem.help is None:
                    _climb(incumbent, deadline)
                climbed = True
            room, steps = int(min(self.batch, left)), race.steps(self.steps)
            if left < math.inf:
                steps = min(steps, max(1, int(left) // room))
            deadline.tell(problem.p, incumbent.lower, min(race.upper, enough))
            race.next_turn().go_on(incumbent, room, steps, threads)
        finished = race.is_done
        upper, certificate = race.winner.frontier.conclude()
        stats = {**race.winner.frontier.stats(), "nodes": float(race.nodes)}
        if self.certified:
            stats["certified"] = float(certificate is not None)
        return upper, finished, stats, certificate

    def _join(
        self, race: Race, programs: Sequence[tuple[SlopeArrays, float]], incumbent: Incumbent, deadline: Deadline
    ) -> None:
        """Searches beside the one that has begun, where they can do its work: on one box, without a certificate."""
        from solvers.lipschitz.search.race import rivals

        (first,) = race.racers
        pieces = [*itertools.islice(each_piece(incumbent.problem), 2)]
        if programs and not self.certified and len(pieces) == 1 and not deadline.is_over:
            race.join(rivals(pieces[0], first, programs[0], incumbent, deadline))


def _rivals_due(frontier: Frontier) -> bool:
    """Whether a search is long enough for others beside it; that of one hidden layer needs none."""
    network = frontier.incumbent.problem.network
    spent = frontier.counts["nodes"] + frontier.counts["lp_solves"] / LIGHT
    size = network.input_dimension * sum(w.size for w in network.weights)
    return network.depth > 1 and spent >= max(RIVALS, RIVAL_WORK / size)


def plain_nodes(problem: LipschitzProblem) -> int:
    """Nodes of a search until programs over slopes are asked for."""
    return PLAIN if problem.network.depth > 1 else SHALLOW_PLAIN


def with_slopes(
    frontier: Frontier, arrays: Sequence[PieceArrays], deadline: Deadline, recorded: bool
) -> tuple[Sequence[PieceArrays], list[SlopeArrays], list[tuple[SlopeArrays, float]]]:
    """The pieces, and programs over slopes for each, if their bound of everything is far below what is open.

    Returns:
        Last the programs with their bounds of everything, whether or not they are used; none where a piece has none.
    """
    from solvers.lipschitz.search.slope_start import start_slopes

    programs = []
    for p in arrays:
        program = None if deadline.is_over else start_slopes(p, recorded)
        if program is None:
            return arrays, [], []
        programs.append(program)
    whole = max(bound for _, bound in programs)
    worth = WORTH if frontier.incumbent.problem.network.depth > 1 else SHALLOW_WORTH
    if not recorded:  # as of the product of norms
        frontier.ceiling = min(frontier.ceiling, whole)
    if not whole <= worth * frontier.highest:
        return arrays, [], programs
    return [p.thorough() for p in arrays], [slopes for slopes, _ in programs], programs


def _walk(incumbent: Incumbent, deadline: Deadline) -> None:
    """Walks from the best point and from some others: most end where the gradient is nearly the longest."""
    from solvers.lipschitz.climb.flips import FlipWalks

    problem = incumbent.problem
    n, d = sum(problem.network.widths), problem.network.input_dimension
    if d > WALK_INPUTS or n * n * d > WALK_NUMBERS:
        return
    points = draw_points(problem.domain, WALK_DRAWS, problem.network, np.random.default_rng(0))
    order = np.argsort(-vector_norm(gradients_at(problem.network, points), problem.dual_p), kind="stable")
    starts = [points[i] for i in order[:WALKS]]
    if incumbent.witness is not None:
        starts = [incumbent.witness.point, *starts[:-1]]
    walks = FlipWalks(problem, WALK_PROGRAMS, deadline)
    for start in starts:
        if not walks.is_over:
            incumbent.offer(*witness_bound(problem, walks.walk(start), SEARCH_ENOUGH))


def _trouble(stats: Mapping[str, float]) -> str:
    """Why a search that came to its end left the bounds apart."""
    leaves = int(stats.get("unsettled_leaves", 0))
    if leaves:
        which = "1 linear region has" if leaves == 1 else f"{leaves} linear regions have"
        return f"{which} neither a float64 point that proves the gradient nor a proof that it is empty"
    return "rounding of gradients that are multiplied out in float64 is wider than the gap asked for"


def _affine(problem: LipschitzProblem, incumbent: Incumbent) -> float:
    """The constant of a network without hidden layers: one gradient everywhere."""
    piece = next(each_piece(problem))
    incumbent.offer(*piece.lower_bound(0.5 * (piece.box.lower + piece.box.upper)))
    gradient = problem.network.weights[0][0]
    if not gradient.any():
        return 0.0
    return float(vector_norm(gradient, problem.dual_p)) * (1 + 1e-14)


def _climb(incumbent: Incumbent, deadline: Deadline) -> None:
    """Gradients that climbs reach, for a search that takes much longer than they do."""
    from solvers.lipschitz.ascent import Ascent

    seconds = min(MOST_CLIMB, CLIMB_SHARE * deadline.remaining)
    answer = Ascent().solve(incumbent.problem, budget=Budget(seconds=seconds))
    incumbent.offer(answer.lower, answer.witness)


def _sample(incumbent: Incumbent, rng: np.random.Generator, deadline: Deadline) -> None:
    """Gradients at random points, then a walk of the best ones with shrinking steps."""
    problem = incumbent.problem
    points, norms = np.empty((0, problem.network.input_dimension)), np.empty(0)
    most = 1 + MOST_WORK // (2 * sum(w.size for w in problem.network.weights))
    count, most_tries = min(FIRST_SAMPLES, most), min(TRIES, 1 + most // WALKERS)
    while len(points) < SAMPLES and not (len(points) and deadline.is_over):
        block = draw_points(problem.domain, count, problem.network, rng)
        lengths = vector_norm(gradients_at(problem.network, block), problem.dual_p)
        if not len(points):  # a witness even where time is short
            incumbent.offer(*witness_bound(problem, block[np.argmax(lengths)], SEARCH_ENOUGH))
        points, norms = np.concatenate([points, block]), np.concatenate([norms, lengths])
        count = min(2 * count, MOST_AT_ONCE, most)
    order = np.argsort(-norms)[:WALKERS]
    walkers, best = points[order], norms[order]
    spread: FloatArray = np.std(points, axis=0)
    for step in range(WALK_STEPS):
        if deadline.is_over:
            break
        steps = rng.standard_normal((len(walkers), most_tries, points.shape[1])) * spread * 0.5 * 0.6**step
        tries = walkers[:, None, :] + steps
        tries = problem.domain.nearest(tries)
        flat = tries.reshape(-1, points.shape[1])
        lengths = vector_norm(gradients_at(problem.network, flat), problem.dual_p).reshape(len(walkers), most_tries)
        pick = np.argmax(lengths, axis=1)
        rows = np.arange(len(walkers))
        better = lengths[rows, pick] > best
        walkers = np.where(better[:, None], tries[rows, pick], walkers)
        best = np.maximum(best, lengths[rows, pick])
    for place in np.argsort(-best):
        if best[place] <= incumbent.lower or deadline.is_over:
            break
        incumbent.offer(*witness_bound(problem, walkers[place], SEARCH_ENOUGH))
    # A walker that ended on the boundary proves nothing; the points drawn do.
    for point, length in zip(points[order], norms[order], strict=True):
        if deadline.is_over:
            break
        if length > incumbent.lower:
            incumbent.offer(*witness_bound(problem, point, SEARCH_ENOUGH))
