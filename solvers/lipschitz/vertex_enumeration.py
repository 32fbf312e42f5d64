"""Exact constants of shallow networks: every cell of the hyperplane arrangement, through its vertices.

Sources: Zaslavsky 1975 for the number of cells; the gradient on a cell is sum over active j of v_j w_j ([DFGSV25],
section 2). How each cell is met once is told in `cell_enumeration`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from solvers.budget import Budget, Deadline
from solvers.domains import Box, Domain, WholeSpace
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.cell_enumeration import (
    Arrangement,
    CellBatch,
    box_arrangements,
    cells,
    generic_direction,
    open_arrangements,
)
from solvers.lipschitz.exact_cells import exact_cells
from solvers.lipschitz.incumbents import Champion, Incumbents
from solvers.lipschitz.interior_points import point_in_cell
from solvers.lipschitz.norm_product import norm_product_bound
from solvers.lipschitz.shallow import ShallowNetwork, shallow_form
from solvers.networks import ReluNetwork
from solvers.norms import FloatArray, dual_exponent, scalar_norm, vector_norm
from solvers.problems import LipschitzProblem
from solvers.regions import ActivationPattern, LinearRegion, pattern_at
from solvers.results import Certificate, LipschitzBounds, Status, Witness
from solvers.witnesses import rounding_slack

__all__ = ["VertexEnumeration"]

# Rational arithmetic takes about a millisecond a subset.
MOST_EXACT_SUBSETS = 20_000
# Around a vertex in doubt all sign choices of this many hyperplanes may enter the upper bound.
MOST_LOCAL = 12
# Gradients below this multiple of their rounding errors are looked at in rational arithmetic.
CANCELLED = 1e8
MOST_DOUBTFUL = 500


@dataclass(slots=True, eq=False)
class _Case:
    """One network on one domain, with every p that was asked of it.

    `area` is where cells are enumerated: all of R^d also for a box with the origin inside it when every kink passes
    through the origin, since then every cell is a cone and meets the box.
    """

    network: ReluNetwork
    domain: Domain
    form: ShallowNetwork
    exponents: list[float]
    area: Domain
    doubt: dict[float, float] = field(default_factory=dict)
    degenerate: bool = False
    doubtful_cells: int = 0


@dataclass(frozen=True)
class VertexEnumeration(AbstractLipschitzSolver):
    """Exact for one hidden layer, any p, on all of R^d and on boxes; every p and many networks in one pass.

    Attributes:
        device: torch device of the tensor work. Results on the CPU are the same bits whatever the batch.
    """

    device: str = "cpu"
    name: ClassVar[str] = "vertex-enumeration"
    summary: ClassVar[str] = "exact for one hidden layer: every cell of the hyperplane arrangement through its vertices"
    gives: ClassVar[Gives] = Gives.BOTH
    exact: ClassVar[bool] = True
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def refuses(self, problem: LipschitzProblem) -> str | None:
        if problem.network.depth > 1:
            return f"it needs at most one hidden layer, the network has {problem.network.depth}"
        return super().refuses(problem)

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        deadline = budget.start()
        cases, owner = _cases(problems)
        groups: dict[Hashable, list[_Case]] = {}
        for case in cases:
            groups.setdefault(_group_key(case), []).append(case)
        answers: dict[int, dict[float, LipschitzBounds]] = {}
        for group in groups.values():
            for case, found in zip(group, self._solve_group(group, budget, deadline), strict=True):
                answers[id(case)] = found
        return [answers[id(owner[i])][problem.dual_p] for i, problem in enumerate(problems)]

    def _solve_group(
        self, group: list[_Case], budget: Budget, deadline: Deadline
    ) -> list[dict[float, LipschitzBounds]]:
        """Networks of one shape on one domain, as one tensor."""
        started = deadline.elapsed
        exponents = sorted({q for case in group for q in case.exponents})
        record = Incumbents(exponents, len(group))
        chain: list[Arrangement] = []
        subsets, finished = 0, True
        for arrangement in _arrangements(group):
            chain.append(arrangement)
            if not finished:
                break
            for batch in cells(arrangement, self.device):
                if deadline.is_over or (budget.nodes is not None and subsets >= budget.nodes):
                    finished = False
                    break
                subsets += len(batch.subsets)
                self._measure(group, record, arrangement, batch, len(chain) - 1)
        stats = {"subsets": float(subsets), "networks_in_batch": float(len(group))}
        answers = []
        for b, case in enumerate(group):
            found: dict[float, LipschitzBounds] = {}
            exact = self._exact_cells(case, deadline) if finished and _needs_exact(case, record, b) else None
            for e, q in enumerate(exponents):
                if q in case.exponents:
                    own = {**stats, "doubtful_cells": float(case.doubtful_cells)}
                    own["wall_seconds"] = deadline.elapsed - started
                    found[q] = _answer(self.name, case, q, record.best[e][b], chain, b, exact, finished, budget, own)
            answers.append(found)
        return answers

    def _measure(
        self, group: list[_Case], record: Incumbents, arrangement: Arrangement, batch: CellBatch, index: int
    ) -> None:
        """Gradients of a chunk of cells, offered to the record; cells in doubt enter upper bounds only."""
        import torch

        jumps = np.stack([case.form.jumps for case in group], axis=-1)  # (M, d, B)
        base = np.stack([case.form.base for case in group], axis=-1)  # (d, B)
        steps = torch.as_tensor(jumps, device=self.device)
        start = torch.as_tensor(base, device=self.device)
        shape = batch.found.shape
        gradients = [start[k].expand(shape) for k in range(base.shape[0])]
        for j in range(jumps.shape[0]):
            on = batch.positive[j].to(torch.float64)
            gradients = [g + on * steps[j, k] for k, g in enumerate(gradients)]
        record.offer(gradients, batch.found, batch.positive, batch.subsets, 2 * index)
        if arrangement.mirrored:
            whole = [2.0 * start[k] + _ordered_sum(steps[:, k]) for k in range(base.shape[0])]
            turned = [w - g for w, g in zip(whole, gradients, strict=True)]
            record.offer(turned, batch.found, ~batch.positive, batch.subsets, 2 * index + 1)
        if bool(batch.doubtful.any()):
            for m, b in torch.nonzero(batch.doubtful).tolist():
                case = group[b]
                case.doubtful_cells += 1
                if case.degenerate or case.doubtful_cells > MOST_DOUBTFUL:
                    case.degenerate = True
                    continue
                near = set(torch.nonzero(batch.near[:, m, b]).flatten().tolist()) | set(batch.subsets[m].tolist())
                _widen(case, sorted(near), batch.positive[:, m, b].cpu().numpy(), arrangement.mirrored)

    def _exact_cells(self, case: _Case, deadline: Deadline) -> list[_ExactCell] | None:
        """All cells of the domain, in rational arithmetic; None if that would take too long."""
        form, d = case.form, case.network.input_dimension
        rows, offsets = form.rows.tolist(), form.offsets.tolist()
        faces = 0
        if isinstance(case.area, Box):
            eye = np.eye(d)
            rows += [*eye.tolist(), *(-eye).tolist()]
            offsets += [*(-case.area.lower).tolist(), *case.area.upper.tolist()]
            faces = 2 * d
        if math.comb(len(rows), min(d, form.count + faces)) > MOST_EXACT_SUBSETS:
            return None
        exact_rows = [tuple(Fraction(value) for value in row) for row in rows]
        try:
            found = exact_cells(exact_rows, [Fraction(b) for b in offsets], lambda: not deadline.is_over)
        except TimeoutError:
            return None
        kept = []
        for signs in sorted(found):
            if not faces or min(signs[-faces:]) > 0:
                on = np.array(signs[: form.count]) > 0
                point = np.array([float(x) for x in found[signs]])
                kept.append(_ExactCell(_exact_gradient(case.network, form, on), point, on))
        return kept


@dataclass(frozen=True, slots=True, eq=False)
class _ExactCell:
    """A cell found in rational arithmetic: gradient, every entry rounded once, a point inside, signs."""

    gradient: FloatArray
    point: FloatArray
    on: np.ndarray


def _cases(problems: Sequence[LipschitzProblem]) -> tuple[list[_Case], list[_Case]]:
    """Distinct (network, domain) pairs, and for every problem the pair it belongs to."""
    known: dict[Hashable, _Case] = {}
    owner = []
    for problem in problems:
        key = (id(problem.network), _domain_key(problem.domain))
        if key not in known:
            whole = WholeSpace(problem.network.input_dimension)
            centred = bool(problem.domain.strictly_contains(np.zeros(whole.dimension)))
            cones = problem.network.is_homogeneous and centred
            area = whole if cones else problem.domain
            known[key] = _Case(problem.network, problem.domain, shallow_form(problem.network, area), [], area)
        case = known[key]
        if problem.dual_p not in case.exponents:
            case.exponents.append(problem.dual_p)
        owner.append(case)
    return list(known.values()), owner


def _domain_key(domain: Domain) -> Hashable:
    return (domain.lower.tobytes(), domain.upper.tobytes()) if isinstance(domain, Box) else None


def _group_key(case: _Case) -> Hashable:
    return (case.form.normals.shape, case.form.jumps.shape, case.form.central, _domain_key(case.area))


def _arrangements(group: list[_Case]) -> Iterator[Arrangement]:
    """The arrangements whose lowest vertices meet every cell of the domain; nothing for affine networks."""
    first = group[0]
    normals = np.stack([case.form.normals for case in group], axis=-1)
    offsets = np.stack([case.form.offsets for case in group], axis=-1)
    if not first.form.count:
        normals = np.zeros((0, 0, len(group)))
        yield Arrangement(normals, np.zeros((0, len(group))), np.zeros(0), lift=("all",))
        return
    for case in group:
        case.degenerate = case.degenerate or case.form.doubtful_rank
    if isinstance(first.area, Box):
        yield from box_arrangements(normals, offsets, first.area)
    else:
        yield from open_arrangements(normals, None if first.form.central else offsets)


def _ordered_sum(rows: Any) -> Any:
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total


def _gradient(form: ShallowNetwork, on: np.ndarray) -> FloatArray:
    total = form.base.copy()
    for j in np.flatnonzero(on):
        total = total + form.jumps[j]
    return total


def _exact_gradient(network: ReluNetwork, form: ShallowNetwork, on: np.ndarray) -> FloatArray:
    """The gradient on a cell, every entry rounded once."""
    # Neurons that cancel with others of their hyperplane add the same on both sides: its negative one is taken.
    side = np.append(on, False)[form.owners] == (form.orientations > 0)
    active = np.flatnonzero(np.where(form.owners >= 0, side, form.orientations < 0))
    total = [Fraction(0)] * network.input_dimension
    for j in active:
        v = Fraction(float(network.weights[-1][0, j]))
        total = [x + v * Fraction(w) for x, w in zip(total, network.weights[0][j].tolist(), strict=True)]
    return np.array([float(x) for x in total])


def _widen(case: _Case, near: list[int], positive: np.ndarray, mirrored: bool) -> None:
    """Let every sign choice of the hyperplanes in doubt enter the upper bound."""
    if len(near) > MOST_LOCAL:
        case.degenerate = True
        return
    for choice in itertools.product((False, True), repeat=len(near)):
        on = positive.copy()
        on[near] = choice
        for side in (on, ~on) if mirrored else (on,):
            gradient = _gradient(case.form, side).tolist()
            for q in case.exponents:
                case.doubt[q] = max(case.doubt.get(q, 0.0), scalar_norm(gradient, q))


def _needs_exact(case: _Case, record: Incumbents, b: int) -> bool:
    if case.degenerate:
        return True
    for e, q in enumerate(record.exponents):
        best = record.best[e][b]
        value = best.value if best else -1.0
        # A gradient that cancels down to its rounding errors may be exactly 0.
        if case.doubt.get(q, -1.0) > value or value < CANCELLED * float(vector_norm(case.form.slack, q)):
            return True
    return False


def _pattern(case: _Case, on: np.ndarray) -> ActivationPattern:
    if not case.network.depth:
        return ()
    form = case.form
    constant = case.network.biases[0] > 0
    side = np.append(on, False)[form.owners] == (form.orientations > 0)
    return (np.where(form.owners >= 0, side, constant),)


def _witness(case: _Case, on: np.ndarray, point: FloatArray | None) -> Witness | None:
    """The cell as a witness, if the point is strictly inside it and inside the domain."""
    if point is None or not np.isfinite(point).all():
        return None
    if isinstance(case.domain, Box) and isinstance(case.area, WholeSpace):
        # A cone: any multiple of the point is in it; half-way to the box's boundary is well inside both.
        room = np.where(point > 0, case.domain.upper, -case.domain.lower) / np.maximum(np.abs(point), 1e-300)
        point = point * (0.5 * float(room.min()))
    for candidate in _near(point) if case.form.cancelled else (point,):
        pattern = pattern_at(case.network, candidate) if case.form.cancelled else _pattern(case, on)
        region = LinearRegion(case.network, pattern)
        if region.strictly_contains(candidate) and case.domain.strictly_contains(candidate):
            return Witness(candidate, pattern, region.gradient()[0])
    return None


def _near(point: FloatArray) -> Iterator[FloatArray]:
    """A point and some next to it: it may lie on a kink of neurons that cancel, which the cell does not know."""
    yield point
    direction = generic_direction(point.size)
    for exponent in range(2, 7):
        for side in (1.0, -1.0):
            yield point + side * 10.0**-exponent * (1.0 + np.abs(point).max()) * direction


def _answer(
    method: str,
    case: _Case,
    q: float,
    best: Champion | None,
    chain: Sequence[Arrangement],
    b: int,
    exact: list[_ExactCell] | None,
    finished: bool,
    budget: Budget,
    stats: dict[str, float],
) -> LipschitzBounds:
    """Bounds of one network for one dual exponent q, rounding pushed outward.

    Relative errors of `scalar_norm` and of the additions here are below 1e-14.
    """
    p = dual_exponent(q)
    slack = float(vector_norm(case.form.slack, q))
    certain = finished and (exact is not None or not case.degenerate)
    witness: Witness | None = None
    own = rounding_slack(case.network, q)
    if exact is not None:
        sizes = [scalar_norm(cell.gradient.tolist(), q) for cell in exact]
        upper = max(sizes)
        for k in sorted(range(len(exact)), key=lambda k: -sizes[k]):
            witness = _witness(case, exact[k].on, exact[k].point)
            if witness is not None:
                witness, own = replace(witness, gradient=exact[k].gradient), 0.0
                break
    else:
        value = 0.0
        if best is not None:
            value = best.value
            index, mirror = divmod(best.place[0], 2)
            signs = ~best.signs if mirror else best.signs
            lifted = point_in_cell(chain, index, best.place[1:], signs, b, bool(mirror))
            witness = _witness(case, best.signs, None if lifted is None else _to_inputs(case, lifted))
        upper = max(value, case.doubt.get(q, 0.0)) + slack
    upper = upper * (1 + 1e-14) if certain else norm_product_bound(case.network, p)
    lower = 0.0
    if witness is not None:
        lower = min(upper, max(0.0, (scalar_norm(witness.gradient.tolist(), q) - own) * (1 - 1e-14)))
    status = Status.EXACT if budget.is_closed(lower, upper) else Status.NUMERICAL_TROUBLE
    if status is not Status.EXACT and not finished:
        status = Status.BUDGET_SPENT
    certificate = Certificate("cell-count", {"subsets": stats["subsets"]}) if certain else None
    return LipschitzBounds(lower, upper, status, method, p, case.domain, witness, certificate, stats)


def _to_inputs(case: _Case, point: FloatArray) -> FloatArray:
    """From arrangement coordinates to x."""
    if not case.form.count:
        box = case.domain
        return (box.lower + box.upper) / 2 if isinstance(box, Box) else np.zeros(case.network.input_dimension)
    return case.form.basis @ point
