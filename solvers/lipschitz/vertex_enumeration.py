"""Exact constants of shallow networks: every cell of the hyperplane arrangement, through its vertices.

Sources: Zaslavsky 1975 for the number of cells; the gradient on a cell is sum over active j of v_j w_j ([DFGSV25],
section 2). How each cell is met once is told in `cell_enumeration`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
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
from solvers.regions import ActivationPattern, LinearRegion
from solvers.results import Certificate, LipschitzBounds, Status, Witness

__all__ = ["VertexEnumeration"]

# Rational arithmetic takes about a millisecond a subset.
MOST_EXACT_SUBSETS = 20_000
# Around a vertex in doubt all sign choices of this many hyperplanes may enter the upper bound.
MOST_LOCAL = 12
MOST_DOUBTFUL = 500


@dataclass(slots=True, eq=False)
class _Case:
    """One network on one domain, with every p that was asked of it."""

    network: ReluNetwork
    domain: Domain
    form: ShallowNetwork
    exponents: list[float]
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
            exact = self._exact_champions(case, deadline) if finished and _needs_exact(case, record, b) else None
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

    def _exact_champions(self, case: _Case, deadline: Deadline) -> dict[float, tuple[float, FloatArray, Any]] | None:
        """The longest gradient for every exponent, over all cells in rational arithmetic; None if that is too long."""
        form, d = case.form, case.network.input_dimension
        rows, offsets = form.rows.tolist(), form.offsets.tolist()
        faces = 0
        if isinstance(case.domain, Box):
            eye = np.eye(d)
            rows += [*eye.tolist(), *(-eye).tolist()]
            offsets += [*(-case.domain.lower).tolist(), *case.domain.upper.tolist()]
            faces = 2 * d
        if math.comb(len(rows), min(d, form.count + faces)) > MOST_EXACT_SUBSETS:
            return None
        exact_rows = [tuple(Fraction(value) for value in row) for row in rows]
        try:
            found = exact_cells(exact_rows, [Fraction(b) for b in offsets], lambda: not deadline.is_over)
        except TimeoutError:
            return None
        best: dict[float, tuple[float, FloatArray, Any]] = {}
        for signs in sorted(found):
            if faces and min(signs[-faces:]) < 0:
                continue
            on = np.array(signs[: form.count]) > 0
            gradient = _gradient(form, on)
            for q in case.exponents:
                value = scalar_norm(gradient.tolist(), q)
                if q not in best or value > best[q][0]:
                    point = np.array([float(x) for x in found[signs]])
                    best[q] = (value, gradient, (point, on))
        return best


def _cases(problems: Sequence[LipschitzProblem]) -> tuple[list[_Case], list[_Case]]:
    """Distinct (network, domain) pairs, and for every problem the pair it belongs to."""
    known: dict[Hashable, _Case] = {}
    owner = []
    for problem in problems:
        key = (id(problem.network), _domain_key(problem.domain))
        if key not in known:
            known[key] = _Case(problem.network, problem.domain, shallow_form(problem.network, problem.domain), [])
        case = known[key]
        if problem.dual_p not in case.exponents:
            case.exponents.append(problem.dual_p)
        owner.append(case)
    return list(known.values()), owner


def _domain_key(domain: Domain) -> Hashable:
    return (domain.lower.tobytes(), domain.upper.tobytes()) if isinstance(domain, Box) else None


def _group_key(case: _Case) -> Hashable:
    return (case.form.normals.shape, case.form.jumps.shape, case.form.central, _domain_key(case.domain))


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
    if isinstance(first.domain, Box):
        yield from box_arrangements(normals, offsets, first.domain)
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
        if case.doubt.get(q, -1.0) > (best.value if best else -1.0):
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
    pattern = _pattern(case, on)
    region = LinearRegion(case.network, pattern)
    if point is None or not np.isfinite(point).all():
        return None
    if not region.strictly_contains(point) or not case.domain.strictly_contains(point):
        return None
    return Witness(point, pattern, region.gradient()[0])


def _answer(
    method: str,
    case: _Case,
    q: float,
    best: Champion | None,
    chain: Sequence[Arrangement],
    b: int,
    exact: dict[float, tuple[float, FloatArray, Any]] | None,
    finished: bool,
    budget: Budget,
    stats: dict[str, float],
) -> LipschitzBounds:
    """Bounds of one network for one dual exponent q, rounding pushed outward."""
    slack = float(vector_norm(case.form.slack, q))
    p = dual_exponent(q)
    witness: Witness | None = None
    value = 0.0
    if exact is not None:
        value, _, (point, on) = exact[q]
        witness = _witness(case, on, point)
    elif best is not None:
        value = best.value
        index, mirror = divmod(best.place[0], 2)
        on = best.signs
        lifted = point_in_cell(chain, index, best.place[1:], ~on if mirror else on, b, bool(mirror))
        point_x = None if lifted is None else _to_inputs(case, lifted)
        witness = _witness(case, on, point_x)
    # Relative errors of scalar_norm and of the sum below are under 1e-14.
    certain = finished and (exact is not None or not case.degenerate)
    if certain:
        doubt = 0.0 if exact is not None else case.doubt.get(q, 0.0)
        upper = (max(value, doubt) + slack) * (1 + 1e-14)
    else:
        upper = norm_product_bound(case.network, p)
    lower = 0.0
    if witness is not None:
        lower = max(0.0, (scalar_norm(witness.gradient.tolist(), q) - slack) * (1 - 1e-14))
    lower = min(lower, upper)
    status = Status.EXACT if budget.is_closed(lower, upper) or upper == 0.0 else Status.NUMERICAL_TROUBLE
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
