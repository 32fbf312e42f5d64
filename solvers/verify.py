"""A second opinion: rechecks a result without the solver that made it.

The witness is recomputed in exact rational arithmetic: the point lies strictly inside the domain and strictly inside
the region of its pattern, and the gradient there is long enough for the lower bound. The certificate is replayed by a
checker of its own kind (`CERTIFICATE_CHECKERS`). A result without a certificate has its upper bound reported as
unproved, never as wrong.

A result is bound to its network by mathematics alone: for another network the witness has another gradient, and the
certificate other regions or norms.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from solvers.arithmetic.rationals import norm_at_least
from solvers.checkers._base import CertificateChecker, Check
from solvers.checkers.norm_product import check_norm_product
from solvers.checkers.region_list import check_region_list
from solvers.checkers.search_tree import check_search_tree
from solvers.checkers.shallow_cells import check_shallow_cells
from solvers.checkers.slope_multipliers import check_slope_multipliers
from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import DEFAULT_RELATIVE_GAP, Budget
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status, Witness
from solvers.problems.witnesses import exact_gradient

__all__ = [
    "CERTIFICATE_CHECKERS",
    "Check",
    "Verdict",
    "Verification",
    "check_witness",
    "verify_all_outputs",
    "verify_bounds",
]

# Kind of certificate -> who replays it.
CERTIFICATE_CHECKERS: dict[str, CertificateChecker] = {
    "norm-product": check_norm_product,
    "region-list": check_region_list,
    "search-tree": check_search_tree,
    "shallow-cells": check_shallow_cells,
    "slope-multipliers": check_slope_multipliers,
}
# The stated gradient is for readers; the proof uses the exact one, so only gross disagreement matters.
GRADIENT_TOLERANCE = 1e-9


class Verdict(enum.StrEnum):
    """What is known of a result after everything in it was looked at."""

    PROVED = "proved"
    UNPROVED = "unproved"
    REFUTED = "refuted"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at in a result, and what could not be.

    Attributes:
        checks: claims that were proved again, or found wrong.
        unproved: claims, as sentences, for which the result holds no proof.
    """

    checks: tuple[Check, ...]
    unproved: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Refuted if one claim is wrong, unproved if one is open, else proved."""
        if not all(check.holds for check in self.checks):
            return Verdict.REFUTED
        return Verdict.UNPROVED if self.unproved else Verdict.PROVED


def verify_bounds(
    problem: LipschitzProblem, bounds: LipschitzBounds, relative_gap: float = DEFAULT_RELATIVE_GAP
) -> Verification:
    """Check every claim of a result: the lower bound, the upper bound, and that it is exact if it says so.

    Args:
        problem: the question as the reader of the result poses it, with their own copy of the network.
        bounds: the answer to check, for the same p and domain.
        relative_gap: at which the result was to count as exact.
    """
    return _verified(problem, bounds, relative_gap, _check_certificate(problem, bounds.certificate, bounds.upper))


def verify_all_outputs(
    network: ReluNetwork, output: int, bounds: LipschitzBounds, relative_gap: float = DEFAULT_RELATIVE_GAP
) -> Verification:
    """Check a result about all outputs: the lower bound at one, the upper bound for each.

    Args:
        network: with one output or more.
        output: whose gradient the witness has.
        bounds, relative_gap: as for `verify_bounds`.
    Raises:
        InputError: no such output, or the domain is of another dimension.
    """
    problem = LipschitzProblem(network.select_output(output), bounds.p, bounds.domain)
    return _verified(problem, bounds, relative_gap, _check_outputs(network, problem, bounds))


def _verified(
    problem: LipschitzProblem, bounds: LipschitzBounds, relative_gap: float, upper: Check | str
) -> Verification:
    checks = [check_witness(problem, bounds.witness, bounds.lower)]
    unproved: list[str] = []
    if math.isinf(bounds.upper):
        checks.append(Check("upper bound", True, "none is claimed"))
    elif isinstance(upper, str):
        unproved.append(upper)
    else:
        checks.append(upper)
    if bounds.status is Status.EXACT:
        closed = Budget(relative_gap=relative_gap).is_closed(bounds.lower, bounds.upper)
        reason = "the bounds agree" if closed else "the bounds are further apart than"
        checks.append(Check("exactness", closed, f"{reason} to the relative gap {relative_gap:g}"))
    return Verification(tuple(checks), tuple(unproved))


def _check_certificate(problem: LipschitzProblem, certificate: Certificate | None, upper: float) -> Check | str:
    """The outcome of the replay, or why there is nothing to replay."""
    if certificate is None:
        return f"the upper bound {upper!r} comes without a certificate"
    if not certificate.data:
        return f"the result names a certificate ({certificate.kind}) but does not hold it: solve again with --certify"
    checker = CERTIFICATE_CHECKERS.get(certificate.kind)
    if checker is None:
        return f"no checker knows certificates of kind {certificate.kind!r} (known: {', '.join(CERTIFICATE_CHECKERS)})"
    return checker(problem, certificate.data, upper)


def _check_outputs(network: ReluNetwork, problem: LipschitzProblem, bounds: LipschitzBounds) -> Check | str:
    """The outcome of the replays for all outputs: the first that fails, or the first that is open, or none."""
    certificate, upper = bounds.certificate, bounds.upper
    if certificate is None or not certificate.data:
        return _check_certificate(problem, certificate, upper)
    if certificate.kind != "all-outputs":
        return f"the certificate, of kind {certificate.kind!r}, is about one output and not about all"
    listed = certificate.data.get("outputs")
    if not isinstance(listed, list) or len(listed) != network.output_dimension:
        return Check(
            "upper bound", False, f"the certificate must hold one for each of {network.output_dimension} outputs"
        )
    unproved: list[str] = []
    for k, value in enumerate(listed):
        try:
            own = Certificate.from_json(value)
        except InputError as error:
            return Check("upper bound", False, f"output {k}: {error}")
        single = LipschitzProblem(network.select_output(k), problem.p, problem.domain)
        found = _check_certificate(single, own, upper)
        if isinstance(found, str):
            unproved.append(f"output {k}: {found}")
        elif not found.holds:
            return Check("upper bound", False, f"output {k}: {found.reason}")
    return unproved[0] if unproved else Check("upper bound", True, f"proved for each of {len(listed)} outputs")


def check_witness(problem: LipschitzProblem, witness: Witness | None, lower: float) -> Check:
    """Whether the lower bound is attained at the witness, in exact arithmetic."""
    if lower == 0.0:
        return Check("lower bound", True, "0 is a lower bound of every norm")
    if witness is None:
        return Check("lower bound", False, f"the lower bound {lower!r} comes without a witness")
    network = problem.network
    if witness.point.shape != (network.input_dimension,):
        return Check(
            "lower bound", False, f"the witness must have shape ({network.input_dimension},), got {witness.point.shape}"
        )
    if tuple(len(layer) for layer in witness.pattern) != network.widths:
        return Check("lower bound", False, "the pattern of the witness does not have the network's widths")
    if not np.isfinite(witness.point).all():
        return Check("lower bound", False, "the witness is not a point: it has NaN or infinite coordinates")
    outside = problem.domain.why_outside(witness.point)
    if outside is not None:
        return Check("lower bound", False, outside)
    gradient = exact_gradient(network, witness.point, witness.pattern)
    if isinstance(gradient, str):
        return Check("lower bound", False, gradient)
    exact = np.array([float(g) for g in gradient])
    stated = np.asarray(witness.gradient, dtype=np.float64)
    allowed = GRADIENT_TOLERANCE * np.abs(exact).max(initial=0.0)
    if stated.shape != exact.shape or np.abs(stated - exact).max() > allowed:
        return Check("lower bound", False, "the gradient of the witness is not the gradient of its region")
    if not norm_at_least(gradient, problem.dual_p, lower):
        size = float(max((abs(g) for g in gradient), default=Fraction(0)))
        return Check(
            "lower bound",
            False,
            f"the gradient at the witness is shorter than the lower bound {lower!r} (largest entry {size:.6g})",
        )
    return Check("lower bound", True, "the witness lies strictly inside its region and its gradient is long enough")
