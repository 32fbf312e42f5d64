"""Exact constants by enumeration of all linear regions: any depth, every p in one pass, few inputs.

A bounded piece of the problem (`regions.pieces`) is subdivided neuron by neuron, layer by layer, and the gradient of
every region that comes out is measured. How cells are cut is told in `regions.kernels`, how signs are made certain in
`regions.geometry`; nothing depends on a tolerance.

Source: [Ber23] for subdivision through signs at vertices; `problems.facets` for the pieces.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.rationals import DyadicArray
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import norm_product_bound
from solvers.lipschitz.regions.pieces import Piece, region_pieces
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.facets import BoundedPiece, bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status, Witness
from solvers.problems.witnesses import SEARCH_ENOUGH, exact_gradient, gradients_at, rounding_slack, witness_bound

if TYPE_CHECKING:
    from solvers.lipschitz.regions.state import Record
    from solvers.lipschitz.regions.stream import RegionStream

__all__ = ["MOST_INPUTS", "RegionEnumeration"]

# A cell has 2^d vertices on average; above this the search for edges among them is all the work.
MOST_INPUTS = 8
# Certificates list every region; longer ones are of no use to a checker in exact arithmetic.
MOST_CERTIFIED = 4000
# Cells between two looks at the clock, and the seconds they should take at most.
FIRST_STEPS, MOST_STEPS, STEPS_SECONDS = 256, 1 << 20, 0.02
# Regions too thin for a witness in float64 that are looked at in exact arithmetic.
MOST_THIN = 500
# Random points whose gradients are measured first.
FIRST_POINTS = 256


@dataclass(slots=True, eq=False)
class _Case:
    """One network on one domain, with every p that was asked of it; a problem for each, and what is proved so far."""

    problems: dict[float, LipschitzProblem] = field(default_factory=dict)
    lower: dict[float, float] = field(default_factory=dict)
    witness: dict[float, Witness] = field(default_factory=dict)

    def offer(self, q: float, lower: float, witness: Witness | None) -> None:
        if witness is not None and lower > self.lower.get(q, 0.0):
            self.lower[q], self.witness[q] = lower, witness


@dataclass(frozen=True)
class RegionEnumeration(AbstractLipschitzSolver):
    """Exact for any depth in few dimensions; problems that differ in p alone are solved in one pass.

    Cells on which interval bounds allow no longer gradient than the longest one found are passed over, unless every
    region is asked for; `stats["passed"]` counts them, `stats["cells"]` the regions that were measured. With `every`
    and one bounded piece, `stats["regions"]` counts the activation regions with non-empty interior that meet the
    interior of the box; pieces of one region are never counted twice. Where several pieces stand for the domain (all of
    R^d; cones), a region may meet many of them, and `count_regions` counts regions.

    Attributes:
        every: meet every region.
        certified: record the list of all regions as a certificate, up to MOST_CERTIFIED of them.
    """

    every: bool = False
    certified: bool = False
    name: ClassVar[str] = "region-enumeration"
    summary: ClassVar[str] = f"exact for any depth and p up to d = {MOST_INPUTS}: every linear region, one by one"
    needs: ClassVar[str] = f"{MOST_INPUTS} inputs at most"
    cost: ClassVar[str] = "linear regions, thousands a second: few inputs (d <= 4)"
    gives: ClassVar[Gives] = Gives.BOTH
    exact: ClassVar[bool] = True
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def refuses(self, problem: LipschitzProblem) -> str | None:
        d = problem.network.input_dimension
        if d > MOST_INPUTS and problem.network.depth:
            return f"it takes at most {MOST_INPUTS} inputs, since cells have 2^d vertices; the network has d = {d}"
        return super().refuses(problem)

    def certifying(self) -> Self:
        return replace(self, certified=True)

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        deadline = budget.start()
        firsts: dict[Hashable, tuple[_Case, np.random.Generator]] = {}
        owners = []
        for problem, rng in zip(problems, rngs, strict=True):
            key = (id(problem.network), problem.domain.key)
            case, _ = firsts.setdefault(key, (_Case(), rng))
            case.problems.setdefault(problem.dual_p, problem)
            owners.append(case)
        asked = Counter(id(case) for case in owners)
        answers: dict[int, dict[float, LipschitzBounds]] = {}
        before = 0.0
        for case, rng in firsts.values():
            found = self._solve_case(case, budget, deadline, rng)
            now = deadline.elapsed
            # One pass answers every p, so each has an equal share: the shares of a batch add up to its seconds.
            share = {"wall_seconds": (now - before) / asked[id(case)]}
            before = now
            answers[id(case)] = {q: replace(one, stats={**one.stats, **share}) for q, one in found.items()}
        return [answers[id(case)][problem.dual_p] for case, problem in zip(owners, problems, strict=True)]

    def _solve_case(
        self, case: _Case, budget: Budget, deadline: Deadline, rng: np.random.Generator
    ) -> dict[float, LipschitzBounds]:
        any_problem = next(iter(case.problems.values()))
        network = any_problem.network
        finished, certificate = True, None
        if network.depth == 0:
            upper, stats = _affine(case), {"regions": 1.0}
        elif deadline.is_over or budget.nodes == 0:
            upper, stats, finished = dict.fromkeys(case.problems, math.inf), {}, False
        else:
            upper, stats, finished, certificate = self._enumerate(case, budget, deadline, rng)
        found = {}
        for q, problem in case.problems.items():
            lower = case.lower.get(q, 0.0)
            high = max(min(upper[q], norm_product_bound(network, problem.p, 0.05 * budget.seconds)), lower)
            if budget.is_closed(lower, high):
                status = Status.EXACT
            else:
                status = Status.NUMERICAL_TROUBLE if finished else Status.BUDGET_SPENT
            found[q] = LipschitzBounds(
                lower, high, status, self.name, problem.p, problem.domain, case.witness.get(q), certificate, stats
            )
        return found

    def _enumerate(
        self, case: _Case, budget: Budget, deadline: Deadline, rng: np.random.Generator
    ) -> tuple[dict[float, float], dict[str, float], bool, Certificate | None]:
        """Upper bound for every dual exponent, statistics, whether all regions were met, certificate."""
        from solvers.lipschitz.regions.state import DONE, IMPROVED, PAUSED
        from solvers.lipschitz.regions.stream import RegionStream, new_record

        any_problem = next(iter(case.problems.values()))
        slack = {q: rounding_slack(any_problem.network, q) for q in case.problems}
        every = self.every or self.certified
        record = new_record(list(slack), list(slack.values()), any_problem.network.input_dimension, every=every)
        if not every:
            _sample(case, record, rng)
            _begin_above_what_is_known(case, record)
        pieces = [*bounded_pieces(any_problem)] if self.certified else region_pieces(any_problem)
        lists: list[dict[str, Any]] | None = [] if self.certified else None
        met, cells, passed, signs, thin = 0, 0, 0, 0, 0
        finished = True
        for piece in pieces:
            stream = RegionStream(piece, record, emit=lists is not None)
            listed: dict[str, Any] = {"points": [], "patterns": []}
            steps, code = FIRST_STEPS, PAUSED
            while code != DONE:
                limit = None if budget.nodes is None else budget.nodes - met
                if deadline.is_over or (limit is not None and stream.regions >= limit):
                    finished = False
                    break
                before = deadline.spent
                code = stream.advance(steps, limit)
                if code == IMPROVED:
                    thin += _improve(case, piece, record, stream.centres(), thin < MOST_THIN)
                    continue
                if lists is not None and not _list_regions(stream, listed, MOST_CERTIFIED - met):
                    lists = None
                steps = _next_steps(steps, deadline.spent - before)
                for q, problem in case.problems.items():
                    known = math.inf if problem.known is None else problem.known.upper
                    deadline.tell(problem.p, case.lower.get(q, 0.0), known)
            met, cells, passed = met + stream.regions, cells + stream.steps, passed + stream.passed
            signs += stream.exact_signs
            if not finished:
                break
            if lists is not None:
                lists.append(listed)
        stats = {
            "regions" if every and len(pieces) == 1 else "cells": float(met),
            "passed": float(passed),
            "nodes": float(cells),
            "pieces": float(len(pieces)),
            "exact_signs": float(signs),
            "thin_regions": float(thin),
        }
        upper = dict.fromkeys(slack, math.inf)
        if finished:
            tiny = all(record.top[e] <= slack[q] for e, q in enumerate(slack))
            vanishing = tiny and all(_vanishes_on(piece, deadline) for piece in pieces)
            for e, q in enumerate(slack):
                # The float64 gradient is off by less than the slack, its norm by a few units in the last place.
                longest = max(float(record.top[e]), float(record.floor[e]))
                upper[q] = 0.0 if vanishing else longest * (1 + 1e-14) + slack[q]
        certificate = None
        if self.certified:
            stats["certified"] = float(finished and lists is not None)
            if finished and lists is not None:
                certificate = Certificate("region-list", {"pieces": lists})
        return upper, stats, finished, certificate


def _next_steps(steps: int, seconds: float) -> int:
    """As many cells as fit between two looks at the clock."""
    if seconds < 0.5 * STEPS_SECONDS:
        return min(2 * steps, MOST_STEPS)
    return max(FIRST_STEPS, steps // 2) if seconds > 2 * STEPS_SECONDS else steps


def _affine(case: _Case) -> dict[float, float]:
    """A network without hidden layers has one gradient everywhere."""
    upper = {}
    for q, problem in case.problems.items():
        piece = bounded_pieces(problem)[0]
        case.offer(q, *piece.lower_bound(0.5 * (piece.box.lower + piece.box.upper)))
        upper[q] = float(vector_norm(problem.network.weights[0][0], q)) * (1 + 1e-14)
    return upper


def _sample(case: _Case, record: Record, rng: np.random.Generator) -> None:
    """Longest gradients at random points, so that cells are passed over from the start."""
    problem = next(iter(case.problems.values()))
    domain, d = problem.domain, problem.network.input_dimension
    if domain.is_bounded:
        points = domain.draw(FIRST_POINTS, rng)
    else:  # near the kinks, and far out
        points = rng.standard_normal((FIRST_POINTS, d)) * 10.0 ** rng.uniform(-1, 2, (FIRST_POINTS, 1))
    gradients = gradients_at(problem.network, points)
    for e, (q, asked) in enumerate(case.problems.items()):
        lengths = vector_norm(gradients, q)
        best = int(np.argmax(lengths))
        lower, witness = witness_bound(asked, points[best], SEARCH_ENOUGH)
        if witness is not None:
            case.offer(q, lower, witness)
            # Below what region enumeration computes itself for that region, which is then met all the same.
            record.floor[e] = float(vector_norm(witness.gradient, q)) * (1 - 1e-12)


def _begin_above_what_is_known(case: _Case, record: Record) -> None:
    """Known witnesses, as those of random points."""
    for e, (q, asked) in enumerate(case.problems.items()):
        known = asked.known
        if known is not None and known.witness is not None and known.lower > case.lower.get(q, 0.0):
            case.offer(q, known.lower, known.witness)
            record.floor[e] = max(record.floor[e], known.lower * (1 - 1e-12))


def _improve(case: _Case, piece: Piece, record: Record, centres: Iterable[FloatArray], patient: bool) -> int:
    """Prove the gradient of the current region for every q in which it is the longest so far.

    A region in which no float64 point was found proves nothing: its gradient enters the upper bound alone. Returns
    whether the region was so thin that rational arithmetic had to look for a point in it.
    """
    lengths = {float(q): float(vector_norm(record.gradient, float(q))) for q in record.exponents}
    wanted = [(e, float(q)) for e, q in enumerate(record.exponents) if lengths[float(q)] > record.screen[e]]
    for attempt, centre in enumerate(centres):
        if attempt and not patient:
            break
        left = []
        for e, q in wanted:
            proved = replace(piece, problem=case.problems[q]).lower_bound(centre)
            case.offer(q, *proved)
            if proved[0] >= lengths[q] * (1 - 1e-12) - 4 * rounding_slack(case.problems[q].network, q):
                record.screen[e] = lengths[q] * (1 + 1e-13)
            else:
                left.append((e, q))
        wanted = left
        if not wanted:
            return attempt
    if not patient:
        for e, q in wanted:
            record.screen[e] = max(record.screen[e], lengths[q])
    return 1


def _list_regions(stream: RegionStream, listed: dict[str, Any], most: int) -> bool:
    """Enter the regions that the stream has handed out, each with a float64 point strictly inside.

    Returns:
        False where there are too many or one is too thin for such a point: then there is no certificate.
    """
    piece = stream.piece
    assert isinstance(piece, BoundedPiece)  # certificates go by the pieces that all methods share
    network, box = piece.network, piece.box
    complete = stream.regions <= most
    for region in stream.emitted():
        point = region.vertices.mean(axis=0)
        if not complete:
            continue
        if not box.strictly_contains(point) or isinstance(exact_gradient(network, point, region.pattern), str):
            complete = False
        listed["points"].append(point.tolist())
        listed["patterns"].append(["".join("1" if on else "0" for on in layer) for layer in region.pattern])
    if not complete:
        stream.stop_emitting()
    return complete


def _vanishes_on(piece: Piece, deadline: Deadline) -> bool:
    """Whether all gradients are exactly 0, in rational arithmetic; False where time ends first."""
    from solvers.lipschitz.regions.stream import stream_regions

    matrices = [DyadicArray.of(w) for w in (*reversed(piece.network.weights[1:]), piece.inputs)]
    for region in stream_regions(piece):
        row = matrices[0]
        for matrix, active in zip(matrices[1:], reversed(region.pattern), strict=True):
            row = DyadicArray(row.integers * active.astype(int).astype(object), row.shift) @ matrix
        if deadline.is_over or row.signs().any():
            return False
    return True
