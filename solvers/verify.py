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
import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from solvers.arithmetic.rationals import DyadicArray, exact_dual, norm_at_least
from solvers.checkers._base import CertificateChecker, Check
from solvers.checkers.norm_product import check_norm_product
from solvers.checkers.region_list import check_region_list
from solvers.checkers.search_tree import check_search_tree
from solvers.checkers.shallow_cells import check_shallow_cells
from solvers.checkers.slope_multipliers import check_slope_multipliers
from solvers.errors import InputError, UnsupportedProblemError
from solvers.networks.relu import ReluNetwork
from solvers.problems.balance import balance
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
    "network_digest",
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
# The stated gradient is for readers; the proof uses the exact one, so only gross disagreement matters: relative to the
# sizes of the terms that add up to it, since rounding is; and to the last bits of subnormal numbers.
GRADIENT_TOLERANCE, SUBNORMAL_TOLERANCE = Fraction(1, 10**9), Fraction(1, 2**1068)


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


def network_digest(network: ReluNetwork) -> str:
    """SHA-256 of a network's arrays in hexadecimal digits: which network a result was checked against.

    Taken of W_0, b_0, ..., W_L, b_L in turn, of each the shape as little-endian int64 and the entries, row by row, as
    little-endian float64; -0.0 counts as 0.0.
    """
    found = hashlib.sha256()
    for w, b in zip(network.weights, network.biases, strict=True):
        for array in (w, b):
            found.update(np.array(array.shape, dtype="<i8").tobytes())
            found.update((array + 0.0).astype("<f8").tobytes())
    return found.hexdigest()


def verify_bounds(
    problem: LipschitzProblem,
    bounds: LipschitzBounds,
    relative_gap: float = DEFAULT_RELATIVE_GAP,
    *,
    claimed_gap: float | None = None,
) -> Verification:
    """Check every claim of a result: the lower bound, the upper bound, and that it is exact if it says so.

    Args:
        problem: the question as the reader of the result poses it, with their own copy of the network.
        bounds: the answer to check, for the same p and domain.
        relative_gap: at which the reader counts a result as exact.
        claimed_gap: at which the result says that it does. A wider one is no lie, but leaves exactness unproved.
    """
    upper = _check_certificate(problem, bounds.certificate, bounds.upper)
    return _verified(problem, bounds, (relative_gap, claimed_gap), upper)


def verify_all_outputs(
    network: ReluNetwork,
    output: int,
    bounds: LipschitzBounds,
    relative_gap: float = DEFAULT_RELATIVE_GAP,
    *,
    claimed_gap: float | None = None,
) -> Verification:
    """Check a result about all outputs: the lower bound at one, the upper bound for each.

    Args:
        network: with one output or more.
        output: whose gradient the witness has.
        bounds, relative_gap, claimed_gap: as for `verify_bounds`.
    Raises:
        InputError: no such output, or the domain is of another dimension.
    """
    problem = LipschitzProblem(network.select_output(output), bounds.p, bounds.domain)
    return _verified(problem, bounds, (relative_gap, claimed_gap), _check_outputs(network, problem, bounds))


def _verified(
    problem: LipschitzProblem, bounds: LipschitzBounds, gaps: tuple[float, float | None], upper: Check | str
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
        exact = _check_exactness(bounds, *gaps)
        if isinstance(exact, str):
            unproved.append(exact)
        else:
            checks.append(exact)
    return Verification(tuple(checks), tuple(unproved))


def _check_exactness(bounds: LipschitzBounds, asked: float, claimed: float | None) -> Check | str:
    if Budget(relative_gap=asked).is_closed(bounds.lower, bounds.upper):
        return Check("exactness", True, f"the bounds agree to the relative gap {asked:g} asked for")
    if claimed is not None and asked < claimed < 1 and bounds.relative_gap <= claimed:
        return (
            f"exactness to the relative gap {asked:g} asked for: the result was solved to {claimed:g} "
            f"(--gap {claimed:g} asks for no more)"
        )
    return Check("exactness", False, f"the bounds are further apart than to the relative gap {asked:g} asked for")


def _check_certificate(problem: LipschitzProblem, certificate: Certificate | None, upper: float) -> Check | str:
    """The outcome of the replay, or why there is nothing to replay."""
    if certificate is None:
        return f"the upper bound {upper!r} comes without a certificate"
    if not certificate.data:
        return f"the result names a certificate ({certificate.kind}) but does not hold it: solve again with --certify"
    checker = CERTIFICATE_CHECKERS.get(certificate.kind)
    if checker is None:
        return f"no checker knows certificates of kind {certificate.kind!r} (known: {', '.join(CERTIFICATE_CHECKERS)})"
    # Solvers balance what they are asked, by powers of two, and so does whoever replays what they found.
    try:
        safe = balance(problem)
    except UnsupportedProblemError as error:
        return f"the certificate was not looked at: {error}"
    return checker(safe.problem, certificate.data, safe.limit(upper))


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
    if not 0 <= lower < math.inf:
        return Check("lower bound", False, f"the lower bound must be a finite number >= 0, got {lower!r}")
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
    if not _is_nearly(witness, network, gradient):
        return Check("lower bound", False, "the gradient of the witness is not the gradient of its region")
    if not norm_at_least(gradient, exact_dual(problem.p), lower):
        return Check("lower bound", False, f"the gradient at the witness is shorter than the lower bound {lower!r}")
    return Check("lower bound", True, "the witness lies strictly inside its region and its gradient is long enough")


def _is_nearly(witness: Witness, network: ReluNetwork, exact: list[Fraction]) -> bool:
    """Whether the stated gradient is the exact one but for rounding, which is relative to |W_L| D ... D |W_0|."""
    stated = np.asarray(witness.gradient, dtype=np.float64)
    if stated.shape != (len(exact),) or not np.isfinite(stated).all():
        return False
    sizes = DyadicArray.of(np.abs(network.weights[-1]).T)
    for w, active in zip(reversed(network.weights[:-1]), reversed(witness.pattern), strict=True):
        sizes = DyadicArray.of(np.abs(w).T) @ sizes.keep(active)
    allowed = GRADIENT_TOLERANCE * max(sizes.fractions()) + SUBNORMAL_TOLERANCE
    return all(abs(Fraction(said) - true) <= allowed for said, true in zip(stated.tolist(), exact, strict=True))
