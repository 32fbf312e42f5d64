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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem

__all__ = ["check_slope_multipliers"]

SUBJECT = "upper bound"
# The exponent p / (p - 2) is rounded to float64: a norm in R^n moves by a relative log(n) 2^-52 at most.
ROUNDED_EXPONENT = 1 + Fraction(1, 2**47)
# Multipliers and scaled weights that are not 0 keep to these sizes, far from under- and overflow.
LEAST, MOST = 1e-140, 1e140
# Added to what is lost: far above all that underflow hides.
UNDERFLOW = 1e-270


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
    network = _Scaled.of(problem, data.get("ranges"))
    unit = Fraction(2) ** network.exponent
    if network.is_constant:
        return None if upper >= 0 else f"no constant is at most {upper!r}"
    p, square, derivative = problem.p, data["square"], data["derivative"]
    bounds: list[Fraction] = []
    roots: list[Fraction] = []
    if square is not None:
        t = _numbers(square["t"], problem.network.input_dimension, "t", positive=True)
        if not _dominates(_Inequality(network, square["layers"]), t):
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


def _numbers(values: Any, count: int, what: str, *, positive: bool) -> FloatArray:
    found = np.array(values, dtype=np.float64)
    if found.shape != (count,):
        raise ValueError(f"{what} must have shape ({count},), got {found.shape}")
    sizes = found if positive else found[found != 0]
    if not ((sizes > LEAST) & (sizes < MOST)).all():
        raise ValueError(f"{what} must hold positive numbers of ordinary size")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Scaled:
    """Scaled weights, the output's last; its exponent; signs of neurons on the domain, 0 where unknown."""

    weights: list[FloatArray]
    exponent: int
    signs: list[NDArray[np.int8]]

    @classmethod
    def of(cls, problem: LipschitzProblem, slopes: Any) -> _Scaled:
        weights = problem.network.weights
        before = np.zeros(problem.network.input_dimension, dtype=np.int64)
        found = []
        for w in weights:
            sizes = np.where(w != 0, np.frexp(w)[1] + before, np.iinfo(np.int32).min)
            after = np.where(w.any(axis=1), sizes.max(axis=1), 0)
            scaled = np.ldexp(w, np.clip(before[None, :] - after[:, None], -5000, 5000).astype(np.int32))
            if ((w != 0) & (np.abs(scaled) < LEAST)).any():
                raise ValueError("weights of one neuron differ by too many orders of magnitude")
            found.append(scaled)
            before = after
        return cls(found, int(before[0]), _signs(problem, slopes))

    @property
    def is_constant(self) -> bool:
        """Whether a layer is silent, or nothing leaves the last one."""
        moving = np.ones(self.weights[0].shape[1], dtype=bool)
        for w, sign in zip(self.weights[:-1], self.signs, strict=True):
            moving = w[:, moving].any(axis=1) & (sign >= 0)
        return not self.weights[-1][:, moving].any()


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


class _Inequality:
    """M but for t: over the free neurons z, between them and the inputs, and what f takes from the inputs.

    Attributes:
        diagonal: 2 lambda, (N,).
        inner, inner_radius: (N, N); without what the diagonal adds.
        mixed, mixed_radius: (N, d).
        output, output_radius: f as a function of x, (d,).
    """

    def __init__(self, network: _Scaled, layers: Sequence[Any]) -> None:
        if len(layers) != len(network.signs):
            raise ValueError(f"there must be multipliers for {len(network.signs)} layers, got {len(layers)}")
        widths = [len(sign) for sign in network.signs]
        parts = [_numbers(layers[k], n, f"layer {k}", positive=False) for k, n in enumerate(widths)]
        places = [np.flatnonzero(part) for part in parts]
        d, count = network.weights[0].shape[1], sum(map(len, places))
        # Rows: how what leaves the layer before depends on (x, z).
        rows, radius = np.eye(d, d + count), np.zeros((d, d + count))
        a, a_radius = np.zeros((count, d + count)), np.zeros((count, d + count))
        start = 0
        for w, sign, part, free in zip(network.weights[:-1], network.signs, parts, places, strict=True):
            if ((part == 0) & (sign == 0) & w.any(axis=1)).any():
                raise ValueError("a neuron has no multiplier, and no sign that is known on the whole domain")
            following, wider = _product(w, rows, radius)
            mine = slice(start, start + len(free))
            a[mine], a_radius[mine] = following[free], wider[free]
            held = (part == 0) & (sign <= 0)
            following[held], wider[held] = 0.0, 0.0
            following[free], wider[free] = 0.0, 0.0
            following[free, d + start + np.arange(len(free))] = 1.0
            rows, radius, start = following, wider, start + len(free)
        output, output_radius = _product(network.weights[-1], rows, radius)
        c, c_radius = output[0], output_radius[0]
        multiplier = np.concatenate([part[free] for part, free in zip(parts, places, strict=True)])
        coupled = multiplier[:, None] * a
        wide = multiplier[:, None] * a_radius + EPSILON * np.abs(coupled)
        square = np.outer(c[d:], c)
        square_radius = np.outer(np.abs(c[d:]) + c_radius[d:], c_radius) + np.outer(c_radius[d:], np.abs(c))
        square_radius += EPSILON * np.abs(square)
        whole, turned = coupled + square, np.zeros_like(coupled)
        turned[:, d:] = coupled[:, d:].T
        total = -(whole + turned)
        spread = wide + square_radius + EPSILON * (np.abs(coupled) + np.abs(square) + np.abs(turned))
        spread[:, d:] += wide[:, d:].T
        spread = spread * (1 + 64 * EPSILON)
        self.diagonal = 2 * multiplier
        self.inner, self.inner_radius = total[:, d:], np.maximum(spread[:, d:], spread[:, d:].T)
        self.mixed, self.mixed_radius = total[:, :d], spread[:, :d]
        self.output, self.output_radius = c[:d], c_radius[:d] * (1 + 64 * EPSILON)


def _product(w: FloatArray, middle: FloatArray, radius: FloatArray) -> tuple[FloatArray, FloatArray]:
    """W times rows that are known up to a radius, with the radius of the product."""
    sizes = np.abs(w)
    lost = 2 * (w.shape[1] + 4) * EPSILON
    # Of an input or a free neuron nothing is lost that enters as it is.
    exact = (np.count_nonzero(middle, axis=0) <= 1) & ((middle == 0) | (middle == 1)).all(axis=0)
    spread = sizes @ radius * (1 + lost) + np.where(exact, 0.0, lost * (sizes @ np.abs(middle)))
    return w @ middle, spread


def _dominates(m: _Inequality, t: FloatArray) -> bool:
    """Whether M with diag(t) is positive definite for certain."""
    square = np.outer(m.output, m.output)
    spread = np.outer(np.abs(m.output) + m.output_radius, m.output_radius)
    spread = (spread + spread.T + EPSILON * np.abs(square)) * (1 + 64 * EPSILON)
    matrix = np.block([[-square, m.mixed.T], [m.mixed, 0.5 * (m.inner + m.inner.T)]])
    radius = np.block([[spread, m.mixed_radius.T], [m.mixed_radius, m.inner_radius + EPSILON * np.abs(m.inner)]])
    own = np.concatenate([t, m.diagonal])
    matrix[np.diag_indices(len(own))] += own
    scale = np.sqrt(own)
    return _factor(matrix, radius @ (1 / scale) * scale, own) is not None


def _factor(matrix: FloatArray, lost: FloatArray, own: FloatArray) -> FloatArray | None:
    """The Cholesky factor of the matrix, lowered by `lost` and by what its rounding can hide; None if there is none.

    Args:
        own: no less than the diagonal.
    """
    n = len(matrix)
    lowered = matrix.copy()
    lowered[np.diag_indices(n)] -= lost * (1 + 4 * (n + 8) * EPSILON) + (n + 2) * (n + 4) * EPSILON * own + UNDERFLOW
    if not (np.diagonal(lowered) > 0).all():
        return None
    try:
        return np.asarray(np.linalg.cholesky(lowered), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None


def _longer_derivative(network: _Scaled, programs: Any, longest: FloatArray) -> str | None:
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
        if not _columns_hold(_Inequality(network, program["layers"]), np.array(inputs), longest[inputs]):
            return "a derivative is not shown to be at most what the certificate says"
        left -= set(inputs)
    return f"the certificate says nothing about the derivative by input {min(left)}" if left else None


def _columns_hold(m: _Inequality, inputs: NDArray[np.int64], longest: FloatArray) -> bool:
    """Whether M with one x_k alone and t_k = longest_k^2 is positive definite for certain, for each of the inputs.

    With R'R = Z lowered and R'b = g, [R b]'[R b] >= 0; what rounding hides beside it is paid for by both diagonals.
    """
    n = len(m.diagonal)
    t = longest * longest
    scale = np.sqrt(m.diagonal)
    radius = m.mixed_radius[:, inputs]
    gamma = 4 * (n + 8) * EPSILON
    inner = 0.5 * (m.inner + m.inner.T)
    inner[np.diag_indices(n)] += m.diagonal
    lost = (m.inner_radius + EPSILON * np.abs(m.inner)) @ (1 / scale) * scale
    lost += (radius / longest).max(axis=1, initial=0.0) * scale + gamma * m.diagonal
    factor = _factor(inner, lost, m.diagonal)
    if factor is None:
        return False
    # A solution by any method, then what is left of the system, in place of a bound for that method.
    b = np.linalg.solve(factor, m.mixed[:, inputs])
    sizes = np.sqrt((b * b).sum(axis=0))
    missing = np.abs(factor @ b - m.mixed[:, inputs])
    missing += gamma * (np.abs(factor) @ np.abs(b) + np.abs(m.mixed[:, inputs]))
    # The system's rest is a radius too, now paid for by t alone: 2 x_i y r <= gamma D_i x_i^2 + y^2 r^2 / (gamma D_i).
    paid = (missing**2 / (gamma * m.diagonal[:, None])).sum(axis=0) + (radius / scale[:, None]).sum(axis=0) * longest
    reach = (np.abs(m.output[inputs]) + m.output_radius[inputs]) ** 2
    return bool(((sizes**2 + reach + paid) * (1 + 4 * (n + 16) * EPSILON) + UNDERFLOW <= t * (1 - 4 * EPSILON)).all())


def _longer_in_a_shallow_network(network: _Scaled, longest: FloatArray) -> str | None:
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
