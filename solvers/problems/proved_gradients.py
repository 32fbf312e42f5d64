"""Activation patterns and gradients at many points at once, proved with as many digits as a network needs.

Running error bounds grow with |W_L| ... |W_0|, so float64 settles no sign from a depth of 8 (N = 1024) to 24 (N = 16)
on. Here the same bounds go with fixed-point numbers whose length grows until every sign is certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.fixed_point import MOST_LIMBS, DigitMatrix, FixedPoint, bits_for
from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON
from solvers.networks.relu import ReluNetwork
from solvers.problems.regions import ActivationPattern

__all__ = ["ProvedGradient", "proved_gradients"]

# Products of float64 numbers that a second and a third try, with more digits, may cost.
MOST_PRODUCTS = 2e10
# Weights whose digits are kept from one block of points to the next.
MOST_KEPT = 2_000_000
# Weights of larger networks whose digits are made at once: so many stay in a processor's cache.
AT_ONCE = 2**16
# Numbers in one array of limbs.
MOST_NUMBERS = 4_000_000
# A pre-activation so small beside what it is the sum of may be 0: it does not say how many digits others need.
ALMOST_ZERO = 2.0**-40
# Bits beyond those that the float64 estimate asks for: errors of gradients far below 1e-12, and room for small layers.
SPARE_BITS = 64


@dataclass(frozen=True, slots=True, eq=False)
class ProvedGradient:
    """The gradient at a point that lies strictly inside its linear region.

    Attributes:
        pattern: neurons that are identically zero on the region count as inactive.
        gradient: (d,), rounded to float64.
        errors: (d,), bounds on what is missing in its entries.
    """

    pattern: ActivationPattern
    gradient: FloatArray
    errors: FloatArray


def proved_gradients(network: ReluNetwork, points: FloatArray) -> list[ProvedGradient | None]:
    """What finite points (count, d) prove of a one-output network; None where a point is on a kink or too near to one.

    A neuron whose pre-activation and its slope are exactly 0 is undetermined and adds nothing.
    """
    widest = max(w.shape[1] + 1 for w in network.weights)
    bits = bits_for(max(widest, *(w.shape[0] for w in network.weights)))
    found: list[ProvedGradient | None] = [None] * len(points)
    proofs: dict[int, _Proof] = {}
    block = max(1, MOST_NUMBERS // (16 * widest))
    for start in range(0, len(points), block):
        left = np.arange(start, min(start + block, len(points)))
        limbs = _limbs_needed(network, points[left], bits)
        for attempt in (limbs, min(2 * limbs, MOST_LIMBS), MOST_LIMBS):
            cost = 4.0 * attempt * len(left) * sum(w.size for w in network.weights)
            if attempt != limbs and cost > MOST_PRODUCTS:
                break
            if attempt not in proofs:
                proofs[attempt] = _Proof(network, bits, attempt)
            kinks = proofs[attempt].run(points, left, found)
            left = np.array([k for k in left if found[k] is None and k not in kinks], dtype=np.int64)
            if not left.size or attempt == MOST_LIMBS:
                break
    return found


def _limbs_needed(network: ReluNetwork, points: FloatArray, bits: int) -> int:
    """How many limbs will settle most points: from float64's values and its running error bounds."""
    values = points.T
    errors = np.zeros(values.shape)
    worst = np.ones(len(points))
    with np.errstate(all="ignore"):
        for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
            sizes = np.abs(w)
            reach = sizes @ np.abs(values) + np.abs(b)[:, None]
            errors = sizes @ errors + (w.shape[1] + 3) * EPSILON * reach
            values = w @ values + b[:, None]
            ratio = np.where(np.abs(values) > ALMOST_ZERO * reach, errors / np.abs(values), 0.0)
            # Digits are counted from the largest number of a layer.
            small = np.abs(values).max(axis=0) / np.where(ratio > 0, np.abs(values), np.inf)
            worst = np.fmax(worst, np.fmax(ratio / EPSILON, small).max(axis=0))
            active = values > 0
            values, errors = values * active, errors * active
        sizes, product = np.abs(network.weights[-1]), network.weights[-1]
        for w in reversed(network.weights[:-1]):
            sizes, product = sizes @ np.abs(w), product @ w
        growth = float(sizes.max()) / max(float(np.abs(product).max()), 1e-300)
    finite = worst[np.isfinite(worst)]
    amplified = max(float(np.quantile(finite, 0.995)) if finite.size else 1.0, growth if growth < math.inf else 1.0)
    return min(MOST_LIMBS, math.ceil((math.log2(amplified) + SPARE_BITS) / bits) + 1)


class _Proof:
    """Passes over blocks of points with a given number of limbs."""

    def __init__(self, network: ReluNetwork, bits: int, limbs: int) -> None:
        self.network = network
        self.bits = bits
        self.limbs = limbs
        self._kept: dict[int, DigitMatrix] = {}
        self._keep = sum(w.size for w in network.weights) <= MOST_KEPT

    def run(self, points: FloatArray, place: NDArray[np.int64], found: list[ProvedGradient | None]) -> set[int]:
        """Enter what is proved of the points in these places in `found`; returns those that are exactly on a kink."""
        vectors = FixedPoint.of(points[place].T, self.bits)
        patterns: list[NDArray[np.bool_]] = []
        zeros: list[NDArray[np.bool_]] = []
        for k in range(self.network.depth):
            vectors = vectors.with_ones().times_rows(self._layer(k), self.limbs)
            values = vectors.values()
            zero = (values == 0) & (vectors.errors == 0)
            certain = (np.abs(values) * (1 - 8 * EPSILON) > vectors.errors) | zero
            patterns.append(values > 0)
            zeros.append(zero)
            if not certain.all():
                good = certain.all(axis=0)
                place, vectors = place[good], vectors.columns(good)
                patterns, zeros = [p[:, good] for p in patterns], [z[:, good] for z in zeros]
            vectors = vectors.keep(patterns[-1])
        flat, kinked = self._flatness(patterns, zeros, len(place))
        if flat.any():
            self._enter(place[flat], [p[:, flat] for p in patterns], found)
        return set(place[kinked].tolist())

    def _layer(self, k: int) -> Iterable[DigitMatrix]:
        """Weights and, in the last column, biases."""
        w, b = self.network.weights[k], self.network.biases[k]
        if not self._keep:
            step = max(1, AT_ONCE // (w.shape[1] + 1))
            parts = (np.column_stack([w[i : i + step], b[i : i + step]]) for i in range(0, len(w), step))
            return self._digits(parts, max(_largest(w), _largest(b[:, None])))
        return [self._whole(k)]

    def _weights(self, k: int) -> Iterable[DigitMatrix]:
        w = self.network.weights[k]
        if not self._keep:
            step = max(1, AT_ONCE // w.shape[1])
            return self._digits((w[i : i + step] for i in range(0, len(w), step)), _largest(w))
        return [self._whole(k).columns(w.shape[1])]

    def _transposed(self, k: int) -> Iterable[DigitMatrix]:
        w = self.network.weights[k]
        if not self._keep:
            step = max(1, AT_ONCE // len(w))
            parts = (np.ascontiguousarray(w[:, i : i + step].T) for i in range(0, w.shape[1], step))
            return self._digits(parts, _largest(w))
        return [self._whole(k).columns(w.shape[1]).transposed]

    def _digits(self, parts: Iterable[FloatArray], largest: float) -> Iterable[DigitMatrix]:
        """Parts of one matrix, whose digits are let go when they have been multiplied."""
        return (DigitMatrix.of(part, self.bits, self.limbs + 2, largest) for part in parts)

    def _whole(self, k: int) -> DigitMatrix:
        """The weights and biases of a small network, kept."""
        if k not in self._kept:
            whole = np.column_stack([self.network.weights[k], self.network.biases[k]])
            self._kept[k] = DigitMatrix.of(whole, self.bits, self.limbs + 2)
        return self._kept[k]

    def _flatness(
        self, patterns: list[NDArray[np.bool_]], zeros: list[NDArray[np.bool_]], count: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Points around which all neurons that are 0 there are 0 for certain, and points where one is not."""
        flat, kinked = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        # A neuron that hears only silent ones is 0 around the point; most zeros are of this kind.
        heard: list[NDArray[np.bool_]] = []
        for k, zero in enumerate(zeros):
            if zero.any():
                links = self.network.weights[k] != 0
                zero = zero & (links @ patterns[k - 1] if k else links.any(axis=1)[:, None])
            heard.append(zero)
            flat &= ~zero.any(axis=0)
        asked = np.flatnonzero(~flat)
        d = self.network.input_dimension
        work = 4.0 * self.limbs * d * sum(w.size for w in self.network.weights)
        block = min(MOST_NUMBERS // (16 * max(self.network.widths, default=1) * d), int(MOST_PRODUCTS / work))
        for start in range(0, len(asked), block) if block else ():
            some = asked[start : start + block]
            flat[some], kinked[some] = self._slopes([p[:, some] for p in patterns], [z[:, some] for z in heard])
        return flat, kinked

    def _slopes(
        self, patterns: list[NDArray[np.bool_]], zeros: list[NDArray[np.bool_]]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of every point, whether the neurons marked in `zeros` have slope 0 for certain, and whether one has not."""
        d, count = self.network.input_dimension, patterns[0].shape[1]
        flat, kinked = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        slope = FixedPoint.of(np.tile(np.eye(d), count), self.bits)
        for k in range(1 + max(k for k, zero in enumerate(zeros) if zero.any())):
            slope = slope.times_rows(self._weights(k), self.limbs)
            sizes = np.abs(slope.values()) * (1 - 8 * EPSILON)
            rows = np.repeat(zeros[k], d, axis=1)
            kinked |= (rows & (sizes > slope.errors)).reshape(-1, count, d).any(axis=(0, 2))
            flat &= ~(rows & ((sizes > 0) | (slope.errors > 0))).reshape(-1, count, d).any(axis=(0, 2))
            slope = slope.keep(np.repeat(patterns[k], d, axis=1))
        return flat, kinked

    def _enter(
        self, place: NDArray[np.int64], patterns: list[NDArray[np.bool_]], found: list[ProvedGradient | None]
    ) -> None:
        depth = self.network.depth
        rows = FixedPoint.of(np.repeat(self.network.weights[-1].T, len(place), axis=1), self.bits)
        for k in reversed(range(depth)):
            rows = rows.keep(patterns[k]).times_rows(self._transposed(k), self.limbs)
        with np.errstate(over="ignore", under="ignore"):
            gradients = np.ldexp(rows.values(), rows.last_exponent)
            # Three roundings of the entry, one more where it is far below 1, and the error of its limbs.
            errors = (np.ldexp(rows.errors, rows.last_exponent) + 3 * EPSILON * np.abs(gradients)) * (1 + 4 * EPSILON)
            errors += 2.0**-1070
        for column, k in enumerate(place):
            if np.isfinite(gradients[:, column]).all() and np.isfinite(errors[:, column]).all():
                pattern = tuple(p[:, column].copy() for p in patterns)
                found[k] = ProvedGradient(pattern, gradients[:, column].copy(), errors[:, column].copy())


def _largest(matrix: FloatArray) -> float:
    """The size of its largest entry."""
    return max(float(matrix.max()), -float(matrix.min()))
