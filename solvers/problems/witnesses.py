"""Lower bounds: what a point strictly inside a linear region proves, with every rounding error accounted for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, scalar_norm, vector_norm
from solvers.arithmetic.rationals import DyadicArray
from solvers.arithmetic.rounding import EPSILON
from solvers.networks.relu import ReluNetwork
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import ActivationPattern, LinearRegion, pattern_at
from solvers.problems.results import Witness

__all__ = ["exact_gradient", "gradients_at", "rounding_slack", "witness_bound"]

# Multiplications up to which a point too close to a kink for float64 is looked at in exact arithmetic.
MOST_EXACT = 200_000


def gradients_at(network: ReluNetwork, points: FloatArray) -> FloatArray:
    """Gradients of a one-output network at points (count, d), kinks read as inactive; shape (count, d)."""
    patterns = [z > 0 for z in network.pre_activations(points)]
    rows = np.broadcast_to(network.weights[-1], (len(points), network.weights[-1].shape[1]))
    for w, active in zip(reversed(network.weights[:-1]), reversed(patterns), strict=True):
        rows = (rows * active) @ w
    return np.array(rows)


def rounding_slack(network: ReluNetwork, q: float) -> float:
    """Bound on the error in l_q of a gradient multiplied out in float64, whatever the order of additions.

    Source: [Hig02, section 3.5]: a product of L + 1 matrices has an entrywise error below
    (sum of inner dimensions + L) u |W_L| ... |W_0|.
    """
    product = np.abs(network.weights[-1])
    terms = network.depth + 2
    for w in reversed(network.weights[:-1]):
        product = product @ np.abs(w)
        terms += w.shape[0]
    return float(vector_norm(product[0], q)) * terms * (2 * EPSILON)


def witness_bound(problem: LipschitzProblem, point: FloatArray) -> tuple[float, Witness | None]:
    """The lower bound that a point of shape (d,) proves, rounded downward.

    Returns:
        (0, None) unless the point is proved to lie strictly inside the domain and strictly inside its linear region: by
        a running error bound on every pre-activation, and in exact arithmetic where that leaves a sign open and the
        network is small.
    """
    network = problem.network
    if not (np.isfinite(point).all() and problem.domain.strictly_contains(point)):
        return 0.0, None
    pattern = pattern_at(network, point)
    if not _signs_are_certain(network, point, pattern):
        work = network.input_dimension * sum(w.size for w in network.weights)
        if work > MOST_EXACT or isinstance(exact_gradient(network, point, pattern), str):
            return 0.0, None
    gradient = LinearRegion(network, pattern).gradient()[0]
    q = problem.dual_p
    lower = (scalar_norm(gradient.tolist(), q) - rounding_slack(network, q)) * (1 - 1e-14)
    return (lower, Witness(np.array(point), pattern, gradient)) if lower > 0 else (0.0, None)


def _signs_are_certain(network: ReluNetwork, point: FloatArray, pattern: ActivationPattern) -> bool:
    """Whether rounding cannot have changed the sign of any pre-activation at the point.

    Source: [Hig02, section 3.1]: n products are summed with an error below n u / (1 - n u) times the sum of
    their sizes, in any order.
    """
    values, errors = np.asarray(point, dtype=np.float64), np.zeros(len(point))
    for w, b, active in zip(network.weights[:-1], network.biases[:-1], pattern, strict=True):
        sizes = np.abs(w)
        unit = (w.shape[1] + 3) * EPSILON
        errors = sizes @ errors * (1 + unit) + unit * (sizes @ np.abs(values) + np.abs(b))
        values = w @ values + b
        certain: NDArray[np.bool_] = np.where(active, values > errors, values < -errors)
        if not certain.all():
            return False
        values, errors = values * active, errors * active
    return True


def exact_gradient(network: ReluNetwork, point: FloatArray, pattern: ActivationPattern) -> list[Fraction] | str:
    """The gradient of a one-output network on the region of a witness, as d exact fractions.

    Returns a sentence instead when the witness is not strictly inside the region of its pattern. A neuron whose
    pre-activation is identically zero on the region is undetermined, and adds nothing under either sign.
    """
    column = DyadicArray.of(point[:, None])
    d = network.input_dimension
    slope = DyadicArray(np.eye(d, dtype=int).astype(object), 0)
    offset = DyadicArray(np.zeros((d, 1), dtype=int).astype(object), 0)
    for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        matrix = DyadicArray.of(w)
        slope = matrix @ slope
        offset = (matrix @ offset) + DyadicArray.of(b[:, None])
        if k == network.depth:
            break
        active = np.asarray(pattern[k], dtype=bool)
        signs = (slope @ column + offset).signs()[:, 0]
        kinks = np.flatnonzero((signs == 0) & (slope.signs() != 0).any(axis=1))
        if kinks.size:
            return f"the witness lies on a kink: neuron {kinks[0]} of hidden layer {k} is exactly 0 there"
        wrong = np.flatnonzero((signs > 0) & ~active | (signs < 0) & active)
        if wrong.size:
            return f"neuron {wrong[0]} of hidden layer {k} has the other sign at the witness than in its pattern"
        slope, offset = slope.keep(active), offset.keep(active)
    return slope.fractions()
