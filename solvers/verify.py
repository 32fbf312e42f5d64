"""A second opinion: rechecks a result without the solver that made it.

The witness is recomputed in exact rational arithmetic: the point lies strictly inside the domain and strictly inside
the region of its pattern, and the gradient there is long enough for the lower bound. The certificate is replayed by a
checker of its own kind (`CERTIFICATE_CHECKERS`). A result without a certificate has its upper bound reported as
unproved, never as wrong.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from solvers.checkers._base import CertificateChecker, Check
from solvers.checkers.region_list import check_region_list
from solvers.checkers.search_tree import check_search_tree
from solvers.domains import Box
from solvers.exact_arithmetic import norm_at_least
from solvers.problems import LipschitzProblem
from solvers.results import Witness
from solvers.witnesses import exact_gradient

__all__ = ["CERTIFICATE_CHECKERS", "Check", "check_witness"]

# Kind of certificate -> who replays it.
CERTIFICATE_CHECKERS: dict[str, CertificateChecker] = {
    "region-list": check_region_list,
    "search-tree": check_search_tree,
}
# The stated gradient is for readers; the proof uses the exact one, so only gross disagreement matters.
GRADIENT_TOLERANCE = 1e-9


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
    outside = _outside(problem, witness)
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


def _outside(problem: LipschitzProblem, witness: Witness) -> str | None:
    if isinstance(problem.domain, Box) and not problem.domain.strictly_contains(witness.point):
        k = int(np.argmin(np.minimum(witness.point - problem.domain.lower, problem.domain.upper - witness.point)))
        return f"coordinate {k} of the witness, {float(witness.point[k])!r}, is not strictly inside the box"
    return None
