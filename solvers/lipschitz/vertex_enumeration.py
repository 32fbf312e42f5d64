"""Exact constants of shallow networks: every cell of the hyperplane arrangement, through its vertices.

Sources: [Zas75] for the number of cells; the gradient on a cell is sum over active j of v_j w_j [DFGSV25, section 2].
How each cell is met once is told in `shallow.cell_enumeration`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np

from solvers.arithmetic.devices import check_device
from solvers.arithmetic.norms import dual_exponent, scalar_norm, vector_norm
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import norm_product_bound
from solvers.lipschitz.shallow.cases import (
    Case,
    ExactCell,
    arrangements_of,
    cell_gradient,
    cell_witness,
    exact_cell_gradient,
    to_inputs,
)
from solvers.lipschitz.shallow.cell_enumeration import Arrangement, CellBatch, cells
from solvers.lipschitz.shallow.certificates import cell_certificate
from solvers.lipschitz.shallow.exact_cells import exact_cells
from solvers.lipschitz.shallow.form import shallow_form
from solvers.lipschitz.shallow.incumbents import Champion, Incumbents
from solvers.lipschitz.shallow.interior_points import point_in_cell
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status, Witness
from solvers.problems.witnesses import rounding_slack

__all__ = ["VertexEnumeration"]

# Rational arithmetic takes about a millisecond a subset.
MOST_EXACT_SUBSETS = 20_000
# Around a vertex in doubt all sign choices of this many hyperplanes may enter the upper bound.
MOST_LOCAL = 12
# Gradients below this multiple of their rounding errors are looked at in rational arithmetic.
CANCELLED = 1e8
MOST_DOUBTFUL = 500


@dataclass(frozen=True)
class VertexEnumeration(AbstractLipschitzSolver):
    """Exact for one hidden layer, any p, on all of R^d and on boxes; every p and many networks in one pass.

    Attributes:
        device: torch device of the tensor work. Results on the CPU are the same bits whatever the batch. Elsewhere
            float64 must round as IEEE 754 says, as on CUDA; witnesses are found and proved on the CPU.
        certified: list the cells as a certificate beside every constant, where `shallow.certificates` can.
    """

    device: str = "cpu"
    certified: bool = False
    name: ClassVar[str] = "vertex-enumeration"
    summary: ClassVar[str] = "exact for one hidden layer: every cell of the arrangement, by its vertices"
    needs: ClassVar[str] = "one hidden layer at most"
    cost: ClassVar[str] = "d of N kinks at a time: 10^7 signs a second"
    gives: ClassVar[Gives] = Gives.BOTH
    exact: ClassVar[bool] = True
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def refuses(self, problem: LipschitzProblem) -> str | None:
        if problem.network.depth > 1:
            return f"it needs at most one hidden layer, the network has {problem.network.depth}"
        return super().refuses(problem)

    def certifying(self) -> Self:
        return replace(self, certified=True)

    def on_device(self, device: str) -> Self:
        check_device(device)
        return replace(self, device=device)

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        deadline = budget.start()
        cases, owner = _cases(problems)
        groups: dict[Hashable, list[Case]] = {}
        for case in cases:
            groups.setdefault(_group_key(case), []).append(case)
        asked = Counter(id(case) for case in owner)
        answers: dict[int, dict[float, LipschitzBounds]] = {}
        before = 0.0
        for group in groups.values():
            found = self._solve_group(group, budget, deadline)
            now = deadline.elapsed
            # One pass answers them all, so each has an equal share: the shares of a batch add up to its seconds.
            share = {"wall_seconds": (now - before) / sum(asked[id(case)] for case in group)}
            before = now
            for case, of_case in zip(group, found, strict=True):
                answers[id(case)] = {q: replace(one, stats={**one.stats, **share}) for q, one in of_case.items()}
        # The dual of the dual exponent is p up to rounding.
        return [replace(answers[id(owner[i])][problem.dual_p], p=problem.p) for i, problem in enumerate(problems)]

    def _solve_group(self, group: list[Case], budget: Budget, deadline: Deadline) -> list[dict[float, LipschitzBounds]]:
        """Networks of one shape on one domain, as one tensor."""
        exponents = sorted({q for case in group for q in case.exponents})
        record = Incumbents(exponents, len(group))
        chain: list[Arrangement] = []
        subsets, finished = 0, True
        for arrangement in arrangements_of(group):
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
            certificate = self._certificate(case, exact, deadline) if self.certified and finished else None
            for e, q in enumerate(exponents):
                if q in case.exponents:
                    own = {**stats, "doubtful_cells": float(case.doubtful_cells)}
                    answer = _answer(self.name, case, q, record.best[e][b], chain, b, exact, finished, budget, own)
                    if isinstance(certificate, Certificate):
                        answer = replace(answer, certificate=certificate)
                    elif certificate is not None:
                        answer = replace(answer, reason=f"no certificate: {certificate}")
                    found[q] = answer
            answers.append(found)
        return answers

    def _measure(
        self, group: list[Case], record: Incumbents, arrangement: Arrangement, batch: CellBatch, index: int
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

    def _certificate(self, case: Case, exact: list[ExactCell] | None, deadline: Deadline) -> Certificate | str:
        """The list of all cells, or why there is none."""
        if exact is None and case.degenerate:
            return "there are too many cells in special position to list them in rational arithmetic"
        if exact is None and case.doubtful_cells:
            exact = self._exact_cells(case, deadline)
            if exact is None:
                return "rounding leaves cells in doubt, and there are too many for rational arithmetic"
        return cell_certificate(case, exact, self.device, lambda: not deadline.is_over)

    def _exact_cells(self, case: Case, deadline: Deadline) -> list[ExactCell] | None:
        """All cells of the domain, in rational arithmetic; None if that would take too long."""
        form, d = case.form, case.network.input_dimension
        rows, offsets = form.rows.tolist(), form.offsets.tolist()
        faces = 0
        if case.area.bounds is not None:
            lower, upper = case.area.bounds
            eye = np.eye(d)
            rows += [*eye.tolist(), *(-eye).tolist()]
            offsets += [*(-lower).tolist(), *upper.tolist()]
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
                kept.append(ExactCell(exact_cell_gradient(case.network, form, on), point, on))
        return kept


def _cases(problems: Sequence[LipschitzProblem]) -> tuple[list[Case], list[Case]]:
    """Distinct (network, domain) pairs, and for every problem the pair it belongs to."""
    known: dict[Hashable, Case] = {}
    owner = []
    for problem in problems:
        key = (id(problem.network), problem.domain.key)
        if key not in known:
            whole = WholeSpace(problem.network.input_dimension)
            centred = bool(problem.domain.strictly_contains(np.zeros(whole.dimension)))
            cones = problem.network.is_homogeneous and centred
            area = whole if cones else problem.domain
            known[key] = Case(problem.network, problem.domain, shallow_form(problem.network, area), [], area)
        case = known[key]
        if problem.dual_p not in case.exponents:
            case.exponents.append(problem.dual_p)
        owner.append(case)
    return list(known.values()), owner


def _group_key(case: Case) -> Hashable:
    return (case.form.normals.shape, case.form.jumps.shape, case.form.central, case.area.key)


def _ordered_sum(rows: Any) -> Any:
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total


def _widen(case: Case, near: list[int], positive: np.ndarray, mirrored: bool) -> None:
    """Let every sign choice of the hyperplanes in doubt enter the upper bound."""
    if len(near) > MOST_LOCAL:
        case.degenerate = True
        return
    for choice in itertools.product((False, True), repeat=len(near)):
        on = positive.copy()
        on[near] = choice
        for side in (on, ~on) if mirrored else (on,):
            gradient = cell_gradient(case.form, side).tolist()
            for q in case.exponents:
                case.doubt[q] = max(case.doubt.get(q, 0.0), scalar_norm(gradient, q))


def _needs_exact(case: Case, record: Incumbents, b: int) -> bool:
    if case.degenerate:
        return True
    for e, q in enumerate(record.exponents):
        best = record.best[e][b]
        value = best.value if best else -1.0
        # A gradient that cancels down to its rounding errors may be exactly 0.
        if case.doubt.get(q, -1.0) > value or value < CANCELLED * float(vector_norm(case.form.slack, q)):
            return True
    return False


def _answer(
    method: str,
    case: Case,
    q: float,
    best: Champion | None,
    chain: Sequence[Arrangement],
    b: int,
    exact: list[ExactCell] | None,
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
            witness = cell_witness(case, exact[k].on, exact[k].point)
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
            witness = cell_witness(case, best.signs, None if lifted is None else to_inputs(case, lifted))
        upper = max(value, case.doubt.get(q, 0.0)) + slack
    upper = upper * (1 + 1e-14) if certain else norm_product_bound(case.network, p, 0.05 * budget.seconds)
    lower = 0.0
    if witness is not None:
        lower = min(upper, max(0.0, (scalar_norm(witness.gradient.tolist(), q) - own) * (1 - 1e-14)))
    status = Status.EXACT if budget.is_closed(lower, upper) else Status.NUMERICAL_TROUBLE
    if status is not Status.EXACT and not finished:
        status = Status.BUDGET_SPENT
    return LipschitzBounds(lower, upper, status, method, p, case.domain, witness, None, stats)
