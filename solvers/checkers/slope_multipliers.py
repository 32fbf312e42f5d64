"""Replays multipliers for the slopes of neurons: one matrix inequality for the whole network, one decomposition.

Along a segment in the domain a free neuron changes by z_i with z_i (a_i - z_i) >= 0, a_i being the change of its
pre-activation; an active one by a_i, a silent one not at all. All a_i and f are linear in xi = (x, z), the changes of
inputs and free neurons. If, with multipliers lambda_i > 0 of the free ones,

    M = sum_k t_k x_k^2 + 2 sum_i lambda_i z_i (z_i - a_i(xi)) - f(xi)^2 >= 0   for all xi,

then f^2 <= sum_k t_k x_k^2 along all segments; with one x_k alone, |df/dx_k| <= sqrt(t_k). Signs of neurons that have
no multiplier are found again on the box, with slopes of lines that the certificate names (`backward_ranges`). A neuron
with a multiplier may have any slope, whatever its sign.

Weights are scaled by powers of two, neuron by neuron, to rows whose largest entry lies in [1/2, 1); multipliers, t and
derivatives are in these units. Every entry of M comes with a radius, in which rounding moves it; radii and all that a
Cholesky decomposition can hide are taken off the diagonal before it is run to its end: 2 r xi_i xi_j is at most
r (s_i / s_j xi_i^2 + s_j / s_i xi_j^2) for all s > 0; roots of the diagonal lose the least share of it.

Sources: [FRHMP19, theorem 2]; [Rump06, theorem 2.3]; [Hig02, sections 3.1, 8.1].
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rationals import norm_above, power_above
from solvers.arithmetic.rounding import EPSILON
from solvers.checkers._base import Check
from solvers.checkers.backward_ranges import tighten_backward
from solvers.checkers.outward_ranges import PieceNetwork, tighten_ranges
from solvers.checkers.slope_inequality import (
    LEAST,
    MOST,
    UNDERFLOW,
    ScaledSlopes,
    SlopeInequality,
    columns_hold,
    dominates,
    ordinary_numbers,
)
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem

__all__ = ["check_slope_multipliers"]

SUBJECT = "upper bound"
# The exponent p / (p - 2) is rounded to float64: a norm in R^n moves by a relative log(n) 2^-52 at most.
ROUNDED_EXPONENT = 1 + Fraction(1, 2**47)


def check_slope_multipliers(problem: LipschitzProblem, data: Mapping[str, Any], upper: float) -> Check:
    """Whether the multipliers prove that Lip_p is at most `upper`."""
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            reason = _unproved(problem, data, upper)
    except (ArithmeticError, KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"the multipliers cannot be replayed: {error!r}"
    if reason is not None:
        return Check(SUBJECT, False, reason)
    return Check(SUBJECT, True, "the multipliers make the matrix inequality hold, and it gives no more than the bound")


def _unproved(problem: LipschitzProblem, data: Mapping[str, Any], upper: float) -> str | None:
    """Why the bound is not proved; None if it is."""
    if problem.network.depth == 0:
        return "multipliers are about networks with a hidden layer, this one has none"
    network = ScaledSlopes.of(problem.network.weights, _signs(problem, data.get("ranges")))
    unit = Fraction(2) ** network.exponent
    if network.is_constant:
        return None if upper >= 0 else f"no constant is at most {upper!r}"
    p, square, derivative = problem.p, data["square"], data["derivative"]
    bounds: list[Fraction] = []
    roots: list[Fraction] = []
    if square is not None:
        t = ordinary_numbers(square["t"], problem.network.input_dimension, "t", positive=True)
        if not dominates(SlopeInequality(network, square["layers"]), t):
            return "the matrix of the inequality is not shown to be positive definite"
        if p >= 2:
            exponent = 1.0 if np.isinf(p) else np.inf if p == 2 else p / (p - 2)
            room = ROUNDED_EXPONENT if 2 < p < np.inf else 1
            total = norm_above([Fraction(v) for v in t.tolist()], exponent) * room
            bounds.append(power_above(total, Fraction(1, 2)))
        else:
            roots = [power_above(Fraction(v), Fraction(1, 2)) for v in t.tolist()]
            if p > 1:
                bounds.append(max(roots))
    if derivative is not None and p < 2:
        longest = np.broadcast_to(np.asarray(derivative, dtype=np.float64), (problem.network.input_dimension,))
        reason = _longer_derivative(network, data["columns"], longest)
        if reason is not None:
            return reason
        # sum |g_k|^q <= sum h_k^(q - 2) g_k^2 <= max h_k^(q - 2) t_k, q dual to p and sum g_k^2 / t_k <= 1.
        share = 2 * (1 - 1 / Fraction(p))
        if p == 1:
            bounds.append(Fraction(float(longest.max())))
        elif roots:
            pairs = zip(roots, longest.tolist(), strict=True)
            bounds.append(max(power_above(r, share) * power_above(Fraction(h), 1 - share) for r, h in pairs))
    if not bounds:
        return "the certificate holds no multipliers for this p"
    if np.isfinite(upper) and min(bounds) * unit > Fraction(upper):
        return f"the multipliers prove {float(min(bounds) * unit)!r}, more than the upper bound {upper!r}"
    return None


def _signs(problem: LipschitzProblem, slopes: Any) -> list[NDArray[np.int8]]:
    """Signs on the domain from ranges carried forward and, with slopes of lines for them, backward."""
    if not isinstance(problem.domain, Box):
        return [np.zeros(n, dtype=np.int8) for n in problem.network.widths]
    piece = PieceNetwork(solid_piece(problem, problem.domain), np.inf)
    root = piece.root()
    tighten_ranges(piece, root)
    if slopes is not None:
        tighten_backward(piece, root, slopes)
    return [signs[0] for signs in root.signs]


def _longer_derivative(network: ScaledSlopes, programs: Any, longest: FloatArray) -> str | None:
    """Why some derivative may be larger than its entry of `longest` (d,); None if none is."""
    if not ((longest > LEAST) & (longest < MOST)).all():
        return f"bounds of derivatives must be positive numbers of ordinary size, got {longest.tolist()!r}"
    if len(network.signs) == 1:
        return _longer_in_a_shallow_network(network, longest)
    d = network.weights[0].shape[1]
    left = set(range(d))
    for program in programs:
        inputs = [int(k) for k in program["inputs"]]
        if not set(inputs) <= left or not inputs:
            return "the certificate lists an input twice, or one that there is not"
        if not columns_hold(SlopeInequality(network, program["layers"]), np.array(inputs), longest[inputs]):
            return "a derivative is not shown to be at most what the certificate says"
        left -= set(inputs)
    return f"the certificate says nothing about the derivative by input {min(left)}" if left else None


def _longer_in_a_shallow_network(network: ScaledSlopes, longest: FloatArray) -> str | None:
    """One hidden layer: a derivative is sum_i s_i v_i W_ik, s_i in [0, 1], and 1 for active neurons."""
    sign = network.signs[0][network.signs[0] >= 0]
    terms = (network.weights[1][0][:, None] * network.weights[0])[network.signs[0] >= 0]
    fixed = terms[sign > 0].sum(axis=0)
    open_ = terms[sign == 0]
    up, down = np.maximum(open_, 0.0).sum(axis=0), np.maximum(-open_, 0.0).sum(axis=0)
    lost = (len(terms) + 4) * EPSILON * np.abs(terms).sum(axis=0) + UNDERFLOW
    if (np.maximum(fixed + up, down - fixed) + lost <= longest).all():
        return None
    return "a derivative may be larger than what the certificate says"
