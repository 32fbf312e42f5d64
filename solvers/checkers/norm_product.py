"""Replays products of operator norms: every layer's norm is proved again by the rule that is said to give it.

Norms of rows and columns, powers and products are taken in rational arithmetic; where an exponent is irrational in
effect, in decimals of many digits rounded upward. The one step in float64 is the largest singular value: c bounds it
if c^2 I - W W^T is positive definite, which a Cholesky decomposition of that matrix, lowered by all that rounding can
hide, shows by running to its end.

A bound by LipLT lists norms of products of layers. A product is computed in float64, and a bound of its errors beside
it: rules that know sizes of entries alone are given sizes that no error exceeds, and the largest singular value is at
most the computed one's and the Frobenius norm of the errors.

Source: [Rump06, theorem 2.3]; [Hig02, sections 3.1, 3.5] for inner products; [FERC23, theorem 1] for LipLT.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray, dual_exponent, parse_exponent
from solvers.arithmetic.rationals import DyadicArray, exact_dual, norm_above, norm_at_most, power_above
from solvers.arithmetic.rounding import EPSILON
from solvers.checkers._base import Check
from solvers.problems.questions import LipschitzProblem

__all__ = ["check_norm_product", "spectral_norm_at_most"]

SUBJECT = "upper bound"
# A dual exponent is rounded to float64, which moves a norm in R^n by a relative log(n) 2^-52 at most.
ROUNDED_DUAL = 1 + Fraction(1, 2**47)

# What underflow hides of a sum of products is far below.
SMALL = 1e-300


def check_norm_product(problem: LipschitzProblem, data: Mapping[str, Any], upper: float) -> Check:
    """Whether the norms listed bound those of the layers, and their product is no larger than `upper`."""
    try:
        chain, transformed = data["chain"], data.get("transformed")
        if transformed is not None:
            with np.errstate(over="raise", invalid="raise"):
                reason = _transformed(problem, transformed, upper)
        else:
            reason = _absolute_values(problem, upper) if chain is None else _chain(problem, chain, upper)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return Check(SUBJECT, False, f"the product of norms cannot be replayed: {error!r}")
    if reason is not None:
        return Check(SUBJECT, False, reason)
    return Check(SUBJECT, True, "the norms of the layers, proved again, multiply to no more than the bound")


def _absolute_values(problem: LipschitzProblem, upper: float) -> str | None:
    """Every gradient is at most |W_L| ... |W_0| entry by entry."""
    product = DyadicArray.of(np.abs(problem.network.weights[-1]))
    for w in reversed(problem.network.weights[:-1]):
        product = product @ DyadicArray.of(np.abs(w))
    if norm_at_most(product.fractions(), exact_dual(problem.p), upper):
        return None
    return f"the absolute values of the weights multiply to more than the upper bound {upper!r}"


def _chain(problem: LipschitzProblem, layers: Any, upper: float) -> str | None:
    weights = problem.network.weights
    if len(layers) != len(weights):
        return f"the certificate must list {len(weights)} layers, got {len(layers)}"
    product, source = Fraction(1), problem.p
    for k, (w, layer) in enumerate(zip(weights, layers, strict=True)):
        a, b, norm = parse_exponent(layer["source"]), parse_exponent(layer["target"]), float(layer["norm"])
        if a != source:
            return f"layer {k} is measured from l_{a:g}, but what enters it is measured in l_{source:g}"
        if not 0 <= norm < math.inf:
            return f"the norm of layer {k} must be a finite number >= 0, got {norm!r}"
        if not _norm_is_at_most(w, a, b, str(layer["rule"]), Fraction(norm)):
            return f"the norm of layer {k} from l_{a:g} to l_{b:g} is not shown to be at most {norm!r}"
        product, source = product * Fraction(norm), b
    if upper != math.inf and not product <= Fraction(upper):
        return f"the norms multiply to more than the upper bound {upper!r}"
    return None


def _transformed(problem: LipschitzProblem, listed: Any, upper: float) -> str | None:
    """m_k = 2^(1-k) ||W_(k,0)|| + sum_{0 < j < k} 2^(j-k) ||W_(k,j)|| m_j for every layer, the last at most `upper`."""
    weights = problem.network.weights
    if len(listed) != len(weights):
        return f"the certificate must list {len(weights)} layers, got {len(listed)}"
    reached: list[tuple[Fraction, float]] = []
    for k, (w, terms) in enumerate(zip(weights, listed, strict=True), start=1):
        if len(terms) != k:
            return f"the certificate must list {k} products for layer {k - 1}, got {len(terms)}"
        total, target = Fraction(0), parse_exponent(terms[0]["target"])
        product, spread = w, np.zeros_like(w)
        for j in range(k - 1, -1, -1):
            if j < k - 1:
                product, spread = _product(product, spread, weights[j])
            term = terms[j]
            a, b, norm = parse_exponent(term["source"]), parse_exponent(term["target"]), float(term["norm"])
            before, source = reached[j - 1] if j else (Fraction(2), problem.p)
            if (a, b) != (source, target):
                return f"the product of layers {j} to {k - 1} is measured in other norms than its neighbours"
            if not 0 <= norm < math.inf:
                return f"the norm of layers {j} to {k - 1} must be a finite number >= 0, got {norm!r}"
            if not _norm_is_at_most(product, a, b, str(term["rule"]), Fraction(norm), spread):
                return f"the norm of layers {j} to {k - 1} from l_{a:g} to l_{b:g} is not shown to be at most {norm!r}"
            total += Fraction(norm) * before / 2 ** (k - j)
        reached.append((total, target))
    if upper != math.inf and not reached[-1][0] <= Fraction(upper):
        return f"the norms of products add up to more than the upper bound {upper!r}"
    return None


def _product(left: FloatArray, spread: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A product in float64, and no less than its errors, those of the left factor included."""
    gamma = 2 * (len(right) + 4) * EPSILON
    sizes = np.abs(right)
    return left @ right, (spread @ sizes + gamma * (np.abs(left) @ sizes)) * (1 + gamma) + SMALL


def _norm_is_at_most(
    w: FloatArray, a: float, b: float, rule: str, norm: Fraction, spread: FloatArray | None = None
) -> bool:
    """Whether a rule of `operator_norms.OperatorNorms.rules` proves ||W||_{a -> b} <= norm.

    Args:
        spread: W is known up to errors of these sizes.
    """
    m, n = w.shape
    middle, missed = w, Fraction(0)
    if spread is not None and spread.any():
        w = (np.abs(w) + spread) * (1 + 4 * EPSILON)
        largest = float(spread.max())
        missed = Fraction(largest) * Fraction(float(np.sqrt(((spread / largest) ** 2).sum())))
        missed *= 1 + (spread.size + 16) * Fraction(EPSILON)
    exact = {a, b} <= {1.0, 2.0, math.inf}
    room = norm if exact else norm / ROUNDED_DUAL
    zero, half, one = Fraction(0), Fraction(1, 2), Fraction(1)
    s, t = _inverse(a), _inverse(b)
    if rule == "columns":
        return _longest(w.T, b) * power_above(Fraction(n), one - s) <= room
    if rule == "rows":
        return _longest(w, dual_exponent(a)) * power_above(Fraction(m), t) <= room
    if rule == "hoelder":
        return norm_above(_lengths(w, dual_exponent(a)), b) <= room
    if rule == "spectral":
        factor = power_above(Fraction(n), max(zero, half - s)) * power_above(Fraction(m), max(zero, t - half))
        return spectral_norm_at_most(middle, room / factor - missed)
    ends = {"one": one, "two": half, "inf": zero}
    high, low = rule.split("-")
    if a != b or not ends[low] <= s <= ends[high] or ends[low] == ends[high]:
        raise ValueError(f"the rule {rule} says nothing about norms from l_{a:g} to l_{b:g}")
    weight = (s - ends[low]) / (ends[high] - ends[low])
    if "two" not in (high, low):
        longer, shorter = _longest(w.T, 1.0), _longest(w, 1.0)
        return power_above(longer, weight) * power_above(shorter, one - weight) <= room
    # With the end at 1 or inf known, what is left has to cover a power of the largest singular value.
    known, share = (_longest(w.T, 1.0), weight) if high == "one" else (_longest(w, 1.0), one - weight)
    if known == 0 or share == 1:
        return known <= room
    return spectral_norm_at_most(middle, _below(room / power_above(known, share), one / (one - share)) - missed)


def _below(base: Fraction, exponent: Fraction) -> Fraction:
    """A fraction that is no more than base ** exponent, and hardly below it; for exponents >= 0."""
    return 1 / power_above(1 / base, exponent) if base else base


def _inverse(exponent: float) -> Fraction:
    return Fraction(0) if math.isinf(exponent) else 1 / Fraction(exponent)


def _lengths(w: FloatArray, q: float) -> list[Fraction]:
    """No less than the length of every row in l_q."""
    exact = DyadicArray.of(w)
    scale = Fraction(1, 1 << exact.shift)
    return [scale * norm_above([Fraction(int(value)) for value in row], q) for row in exact.integers]


def _longest(w: FloatArray, q: float) -> Fraction:
    return max(_lengths(w, q))


def spectral_norm_at_most(w: FloatArray, bound: Fraction) -> bool:
    """Whether the largest singular value of W (m, n) is proved to be at most `bound`; rounding counts against it."""
    if not w.any() or bound < 0:
        return bound >= 0
    # Scaled by a power of two to entries around 1, out of reach of under- and overflow.
    shift = math.frexp(float(np.abs(w).max()))[1]
    short = np.ldexp(w if w.shape[0] <= w.shape[1] else w.T, -shift)
    k, n = short.shape
    scaled = bound / Fraction(2) ** shift
    if scaled > k * n:
        return True  # entries below 1
    c = float(scaled) * (1 - EPSILON)
    square = float((short**2).sum())
    gram = short @ short.T
    matrix = -gram
    matrix[np.diag_indices(k)] += c * c
    diagonal = np.diagonal(matrix)
    if not (diagonal > 0).all():
        return False
    # Gram matrix and diagonal in float64, then Cholesky; twice what the theorems ask for, in units of 2^-53.
    lost = (n + 4) * EPSILON * square + 4 * EPSILON * c * c + (k + 4) * EPSILON * float(diagonal.sum()) + 1e-250
    try:
        factor = np.linalg.cholesky(matrix - lost * np.eye(k))
    except np.linalg.LinAlgError:
        return False
    return bool((np.diagonal(factor) > 0).all())
