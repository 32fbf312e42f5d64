"""Networks brought into the safe range of float64 by powers of two, which round nothing, and answers brought back.

relu(c z) = c relu(z) for c > 0: the weights and bias of a neuron may be multiplied by c if those that it feeds are
divided by it. Every neuron is scaled until the largest product of weights along a path from the inputs to it lies in
[1, 2), the output too, and a box until it reaches as far. Then products and squares of gradients neither over- nor
underflow, and what underflow hides of one is far below its rounding errors.

The region of a pattern, and so the pattern of a witness, stays; a point is scaled with its box. Certificates speak of
the balanced problem: whoever checks one balances the asked problem first. Networks of ordinary sizes are left alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.errors import UnsupportedProblemError
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.questions import Help, LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status

__all__ = ["Rescaled", "balance", "balance_all"]

# Exponents of products along paths, of weights and of boxes up to which nothing is scaled: their squares are far inside
# float64, and so are products of two of them.
ORDINARY = 300
# Exponents that one neuron's weights and values may span: beyond, they do not fit side by side.
MOST_SPAN = 900
NOTHING = -(1 << 40)

OUTSIDE = "the constant leaves the range of float64, 5e-324 to 1.8e308: multiply the output by a power of ten"


@dataclass(frozen=True, slots=True, eq=False)
class Rescaled:
    """A problem in units in which float64 is safe.

    Attributes:
        problem: with Lip_p(asked) = 2^output Lip_p(problem).
        output: a whole number.
        inputs: x = 2^inputs x' for points x' of the balanced domain.
    """

    problem: LipschitzProblem
    output: int = 0
    inputs: int = 0

    def limit(self, upper: float) -> float:
        """An upper bound of the asked problem in units of this one, rounded downward."""
        return _rescaled(upper, -self.output, upward=False)

    def bound(self, upper: float) -> float:
        """An upper bound of this problem in units of the asked one, rounded upward."""
        return _rescaled(upper, self.output, upward=True)

    def known(self, known: LipschitzBounds) -> LipschitzBounds:
        """Bounds of the asked problem as bounds of this one, rounded outward; a witness only if nothing is rounded."""
        lower, upper = 0.0, _rescaled(known.upper, -self.output, upward=True)
        witness = known.witness
        if witness is not None:
            with np.errstate(over="ignore", under="ignore"):
                gradient = _ldexp(witness.gradient, np.full(witness.gradient.shape, -self.output))
                point = _ldexp(witness.point, np.full(witness.point.shape, -self.inputs))
                back = np.ldexp(gradient, self.output), np.ldexp(point, self.inputs)
            if (back[0] == witness.gradient).all() and (back[1] == witness.point).all():
                witness = replace(witness, gradient=gradient, point=point)
                lower = _rescaled(known.lower, -self.output, upward=False)
            else:
                witness = None
        domain = self.problem.domain
        return replace(known, lower=lower, upper=upper, domain=domain, witness=witness, certificate=None)

    def help(self, help: Help) -> Help:
        """Help for the asked problem as help for this one."""
        return replace(help, ask=lambda deadline: self.known(help.ask(deadline)))

    def answer(self, asked: LipschitzProblem, found: LipschitzBounds, budget: Budget) -> LipschitzBounds:
        """Bounds of this problem as bounds of the asked one, rounded outward; beyond float64 the upper one is inf."""
        if asked is self.problem:
            return found
        lower, upper = _rescaled(found.lower, self.output, upward=False), self.bound(found.upper)
        witness, status, reason = found.witness, found.status, found.reason
        if witness is not None:
            with np.errstate(over="ignore", under="ignore"):
                gradient, point = np.ldexp(witness.gradient, self.output), np.ldexp(witness.point, self.inputs)
            stays = np.isfinite(gradient).all() and asked.domain.strictly_contains(point) and lower > 0
            witness = replace(witness, gradient=gradient, point=point) if stays else None
        if witness is None:
            lower = 0.0
        if status is Status.EXACT and not budget.is_closed(lower, upper):
            status, reason = Status.NUMERICAL_TROUBLE, OUTSIDE
        return replace(
            found, lower=lower, upper=upper, status=status, domain=asked.domain, witness=witness, reason=reason
        )


def balance_all(problems: Sequence[LipschitzProblem]) -> list[Rescaled]:
    """Every problem balanced; those that share a network and a domain share them after it too."""
    known: dict[object, Rescaled] = {}
    found = []
    for problem in problems:
        key = id(problem.network), problem.domain.key
        if key not in known:
            known[key] = balance(problem)
        first = known[key]
        if first.problem.network is problem.network:
            found.append(Rescaled(problem))
        else:
            same = LipschitzProblem(
                first.problem.network,
                problem.p,
                first.problem.domain,
                known=None if problem.known is None else first.known(problem.known),
                help=None if problem.help is None else first.help(problem.help),
            )
            found.append(replace(first, problem=same))
    return found


def balance(problem: LipschitzProblem) -> Rescaled:
    """The problem in safe units; the very same where its sizes are ordinary.

    Raises:
        UnsupportedProblemError: sizes that meet in one layer are further apart than float64 can hold.
    """
    network, bounds = problem.network, problem.domain.bounds
    reach = 1.0 if bounds is None else float(np.maximum(np.abs(bounds[0]), np.abs(bounds[1])).max())
    size = math.frexp(reach)[1] - 1
    if _is_clearly_ordinary(network, size):
        return Rescaled(problem)
    units = _units(network)
    largest = max(float(np.abs(w).max()) for w in network.weights)
    if largest < 2.0**ORDINARY and max(int(np.abs(unit).max()) for unit in units) <= ORDINARY >= abs(size):
        _check_values(network, size)
        return Rescaled(problem)
    inputs = size if abs(size) > ORDINARY else 0
    weights, biases = [], []
    before = np.zeros(network.input_dimension, dtype=np.int64)
    for k, (w, b, unit) in enumerate(zip(network.weights, network.biases, units, strict=True)):
        weights.append(_times_power(w, before - unit[:, None], k))
        # The last bias is no part of a gradient, and may be out of proportion to all others.
        biases.append(_times_power(b, -inputs - unit, k) if k < network.depth else np.zeros_like(b))
        before = unit
    safe = ReluNetwork(weights, biases)
    _check_values(safe, size - inputs)
    domain = problem.domain.scaled(-inputs) if inputs else problem.domain
    return Rescaled(LipschitzProblem(safe, problem.p, domain), int(units[-1][0]), inputs)


def _is_clearly_ordinary(network: ReluNetwork, size: int) -> bool:
    """A quick look at the largest weight of every row; False where it leaves something open."""
    if abs(size) > ORDINARY:
        return False
    low = high = 0.0
    for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        rows = np.abs(w).max(axis=1)
        least, most = float(rows.min()), float(rows.max())
        if least == 0 or (k < network.depth and float(np.abs(b).max()) >= 2.0**ORDINARY):
            return False
        low, high = low + math.log2(least) - 1, high + math.log2(most) + 1
        if low < -ORDINARY or high > ORDINARY or most >= 2.0**ORDINARY:
            return False
    return True


def _units(network: ReluNetwork) -> list[NDArray[np.int64]]:
    """Exponent of the largest product along a path to every neuron; of its constant where no path leads to it."""
    path = unit = np.zeros(network.input_dimension, dtype=np.int64)
    units = []
    for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        sizes = np.where(w != 0, _exponents(w), NOTHING)
        following = np.maximum((sizes + path).max(axis=1), NOTHING)
        if k < network.depth:
            constant = np.maximum((sizes + unit).max(axis=1), np.where(b != 0, _exponents(b), NOTHING))
            constant = np.where(constant > NOTHING // 2, constant, 0)
        else:
            constant = np.zeros_like(following)
        path, unit = following, np.where(following > NOTHING // 2, following, constant)
        units.append(unit)
    return units


def _check_values(network: ReluNetwork, size: int) -> None:
    """Refuse a network whose pre-activations may leave float64, however its neurons are scaled."""
    value = np.full(network.input_dimension, size, dtype=np.int64)
    for k, (w, b) in enumerate(zip(network.weights[:-1], network.biases[:-1], strict=True)):
        sizes = np.where(w != 0, _exponents(w), NOTHING) + value
        value = np.maximum(np.maximum(sizes.max(axis=1), np.where(b != 0, _exponents(b), NOTHING)), NOTHING)
        if int(value.max()) > MOST_SPAN:
            raise UnsupportedProblemError(
                f"biases make values in hidden layer {k} 2^{int(value.max())} times as large as what the weights make "
                "of the inputs: float64 cannot hold both; scale the biases down"
            )


def _exponents(values: FloatArray) -> NDArray[np.int64]:
    """e with 2^e <= |v| < 2^(e + 1); for 0 a number without meaning."""
    return np.frexp(values)[1].astype(np.int64) - 1


def _times_power(values: FloatArray, powers: NDArray[np.int64], layer: int) -> FloatArray:
    """2^powers values, exactly.

    Raises:
        UnsupportedProblemError: float64 does not hold them.
    """
    there = np.where(values != 0, powers, 0)
    with np.errstate(over="ignore", under="ignore"):
        scaled = _ldexp(values, there)
        if np.isfinite(scaled).all() and (_ldexp(scaled, -there) == values).all():
            return scaled
    found = (_exponents(values) + there)[values != 0]
    raise UnsupportedProblemError(
        f"the weights and biases of layer {layer} span 2^{int(found.min())} to 2^{int(found.max())} once its neurons "
        "are brought to one size: float64 cannot hold them side by side; set the smallest to 0 or rescale the inputs"
    )


def _ldexp(values: FloatArray, powers: NDArray[np.int64]) -> FloatArray:
    """2^powers values; in two steps, for powers beyond the largest that C's ldexp is asked for."""
    return np.asarray(np.ldexp(values, np.clip(powers, -(1 << 20), 1 << 20).astype(np.int32)))


def _rescaled(value: float, power: int, upward: bool) -> float:
    """2^power value for value >= 0, rounded outward; what is beyond float64 is inf upward, else the largest float64."""
    if value == 0 or math.isinf(value):
        return value
    exact = Fraction(value) * Fraction(2) ** power
    try:
        near = float(exact)
    except OverflowError:
        near = math.inf if upward else sys.float_info.max
    if upward:
        return near if math.isinf(near) or Fraction(near) >= exact else math.nextafter(near, math.inf)
    return near if Fraction(near) <= exact else math.nextafter(near, 0.0)
