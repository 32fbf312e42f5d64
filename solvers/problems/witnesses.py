"""Lower bounds: what a point strictly inside a linear region proves, with every rounding error accounted for."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.exact_products import exact_product
from solvers.arithmetic.norms import FloatArray, scalar_norm, vector_norm
from solvers.arithmetic.rationals import DyadicArray
from solvers.arithmetic.rounding import EPSILON
from solvers.networks.relu import ReluNetwork
from solvers.problems.proved_gradients import ProvedGradient, proved_gradients
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import ActivationPattern, LinearRegion, pattern_at
from solvers.problems.results import Witness

__all__ = [
    "FLOAT_ENOUGH",
    "SEARCH_ENOUGH",
    "exact_gradient",
    "gradients_at",
    "rounding_slack",
    "witness_bound",
    "witness_bounds",
]

# Multiplications up to which a point too close to a kink for float64 is looked at in exact arithmetic.
MOST_EXACT = 200_000
# Multiplications of matrices from which a gradient is worth its own order of them.
MANY_PRODUCTS = 1_000_000_000
# Share of a gradient's length that float64's error bound may take before more digits are worth their time.
FLOAT_ENOUGH = 9e-13
# The same while a search goes on: far below the gaps that are asked for, so that small networks of a few layers cost
# no more than float64.
SEARCH_ENOUGH = 1e-9


def gradients_at(network: ReluNetwork, points: FloatArray) -> FloatArray:
    """Gradients of a one-output network at points (count, d), kinks read as inactive; shape (count, d)."""
    patterns = [z > 0 for z in network.pre_activations(points)]
    rows = np.broadcast_to(network.weights[-1], (len(points), network.weights[-1].shape[1]))
    for w, active in zip(reversed(network.weights[:-1]), reversed(patterns), strict=True):
        rows = (rows * active) @ w
    return np.array(rows)


def rounding_slack(network: ReluNetwork, q: float, pattern: ActivationPattern | None = None) -> float:
    """Bound on the error in l_q of a gradient multiplied out in float64, whatever the order of additions.

    Args:
        pattern: of the gradient in question; any when left out. Silent neurons add zeros, which are not rounded.
    Source: [Hig02, section 3.5]: a product of L + 1 matrices has an entrywise error below
    (sum of inner dimensions + L) u |W_L| ... |W_0|.
    """
    product = np.abs(network.weights[-1])
    terms = network.depth + 2
    for k in reversed(range(network.depth)):
        w = network.weights[k]
        if pattern is not None:
            product = product * pattern[k]
        product = product @ np.abs(w)
        terms += w.shape[0] if pattern is None else int(np.count_nonzero(pattern[k]))
    return float(vector_norm(product[0], q)) * terms * (2 * EPSILON)


def witness_bound(
    problem: LipschitzProblem, point: FloatArray, enough: float = FLOAT_ENOUGH
) -> tuple[float, Witness | None]:
    """The lower bound that a point of shape (d,) proves, rounded downward; see `witness_bounds`."""
    return witness_bounds(problem, np.asarray(point)[None, :], enough)[0]


def witness_bounds(
    problem: LipschitzProblem, points: FloatArray, enough: float = FLOAT_ENOUGH
) -> list[tuple[float, Witness | None]]:
    """The lower bounds that points of shape (count, d) prove, rounded downward.

    Args:
        enough: share of its length by which a bound may stay below a gradient for the sake of speed.
    Returns:
        For every point (0, None) unless it is proved to lie strictly inside the domain and strictly inside its linear
        region: by a running error bound on every pre-activation in float64, then, where that leaves a sign open or the
        gradient more than `enough` from exact, with more digits, and in rational arithmetic where the network is small.
    """
    network, q = problem.network, problem.dual_p
    found: list[tuple[float, Witness | None]] = [(0.0, None)] * len(points)
    slack = rounding_slack(network, q)
    inside = [k for k, x in enumerate(points) if np.isfinite(x).all() and problem.domain.strictly_contains(x)]
    # Of many points, those with gradients too short for float64 need not be tried in it one by one. With about half
    # of the neurons live in each layer, the bound for one pattern is 2^(L + 1) times less than that for any.
    short: set[int] = set()
    if len(inside) > 1:
        lengths = vector_norm(gradients_at(network, points[inside]), q)
        short = {
            k for k, length in zip(inside, lengths, strict=True) if slack > 4 * 2.0**network.depth * enough * length
        }
    hard = []
    for k in inside:
        point = points[k]
        if k in short:
            hard.append(k)
            continue
        pattern = pattern_at(network, point)
        if _signs_are_certain(network, point, pattern):
            gradient = _gradient(network, pattern)
            length = scalar_norm(gradient.tolist(), q)
            off = slack if slack <= enough * length else rounding_slack(network, q, pattern)
            if off <= enough * length:
                if length > 0:
                    found[k] = (length - off) * (1 - 1e-14), Witness(np.array(point), pattern, gradient)
                continue
        hard.append(k)
    if hard:
        for k, proved in zip(hard, proved_gradients(network, points[hard]), strict=True):
            if proved is None:
                proved = _rational_gradient(network, points[k])
            if proved is None:
                continue
            gradient, off = proved.gradient, scalar_norm(proved.errors.tolist(), q) * (1 + 1e-14)
            if off > enough * scalar_norm(gradient.tolist(), q):
                # Digits of fixed point run out where weights span many orders of magnitude; those of float64 do not.
                rounding = rounding_slack(network, q, proved.pattern)
                if rounding < off:
                    gradient, off = _gradient(network, proved.pattern), rounding
            lower = (scalar_norm(gradient.tolist(), q) - off) * (1 - 1e-14)
            if lower > 0:
                found[k] = lower, Witness(np.array(points[k]), proved.pattern, gradient)
    return found


def _gradient(network: ReluNetwork, pattern: ActivationPattern) -> FloatArray:
    """The gradient (d,) of a pattern; of a large network as a row multiplied through its layers, d times as fast.

    The error bound of a product of matrices holds in either order.
    """
    if network.input_dimension * sum(w.size for w in network.weights) <= MANY_PRODUCTS:
        return LinearRegion(network, pattern).gradient()[0]
    row = network.weights[-1][0]
    for w, active in zip(reversed(network.weights[:-1]), reversed(pattern), strict=True):
        row = (row * active) @ w
    return row


def _rational_gradient(network: ReluNetwork, point: FloatArray) -> ProvedGradient | None:
    """What a point of a small network proves in rational arithmetic."""
    if network.input_dimension * sum(w.size for w in network.weights) > MOST_EXACT:
        return None
    pattern = pattern_at(network, point)
    exact = exact_gradient(network, point, pattern)
    if isinstance(exact, str) or max(map(abs, exact)) > sys.float_info.max:
        return None
    gradient = np.array([float(g) for g in exact])
    return ProvedGradient(pattern, gradient, EPSILON * np.abs(gradient) + 2.0**-1070)


def _signs_are_certain(network: ReluNetwork, point: FloatArray, pattern: ActivationPattern) -> bool:
    """Whether rounding cannot have changed the sign of any pre-activation at the point.

    Source: [Hig02, section 3.1]: n products are summed with an error below n u / (1 - n u) times the sum of
    their sizes, in any order.
    """
    values, errors = np.asarray(point, dtype=np.float64), np.zeros(len(point))
    before = np.ones(len(point), dtype=bool)
    for w, b, active in zip(network.weights[:-1], network.biases[:-1], pattern, strict=True):
        sizes = np.abs(w)
        unit = (w.shape[1] + 3) * EPSILON
        errors = sizes @ errors * (1 + unit) + unit * (sizes @ np.abs(values) + np.abs(b))
        values = w @ values + b
        certain: NDArray[np.bool_] = np.where(active, values > errors, values < -errors)
        if not certain.all():
            # A neuron without a bias that hears only silent ones is 0 on the whole region.
            certain |= (b == 0) & ~((w != 0) @ before)
            if not certain.all():
                return False
        values, errors, before = values * active, errors * active, active
    return True


def exact_gradient(network: ReluNetwork, point: FloatArray, pattern: ActivationPattern) -> list[Fraction] | str:
    """The gradient of a one-output network on the region of a witness, as d exact fractions.

    Returns a sentence instead when the witness is not strictly inside the region of its pattern. A neuron whose
    pre-activation is identically zero on the region is undetermined, and adds nothing under either sign.
    """
    value = DyadicArray.of(point[:, None])
    masks = [np.asarray(layer, dtype=bool) for layer in pattern]
    # Slopes are asked for where a neuron is 0; `known` layers of them have been multiplied out.
    slope, known = DyadicArray.of(np.eye(network.input_dimension)), 0
    for k, active in enumerate(masks):
        value = exact_product(network.weights[k], value) + DyadicArray.of(network.biases[k][:, None])
        signs = value.signs()[:, 0]
        if (signs == 0).any():
            while known <= k:
                slope = exact_product(network.weights[known], slope.keep(masks[known - 1]) if known else slope)
                known += 1
            kinks = np.flatnonzero((signs == 0) & (slope.signs() != 0).any(axis=1))
            if kinks.size:
                return f"the witness lies on a kink: neuron {kinks[0]} of hidden layer {k} is exactly 0 there"
        wrong = np.flatnonzero((signs > 0) & ~active | (signs < 0) & active)
        if wrong.size:
            return f"neuron {wrong[0]} of hidden layer {k} has the other sign at the witness than in its pattern"
        value = value.keep(active)
    row = DyadicArray.of(network.weights[-1].T)
    for w, active in zip(reversed(network.weights[:-1]), reversed(masks), strict=True):
        row = exact_product(w.T, row.keep(active))
    return row.fractions()
