"""Multipliers for `slopes.proof` by the low-rank form of the semidefinite program's dual: a network of vectors.

Every input and every neuron holds a vector of r numbers. A free neuron with pre-activation a in R^r may take any value
on the sphere with a as diameter, (a + ||a|| s) / 2 with ||s|| = 1: all z with <z, a - z> >= 0 that are extreme. The
length of the output is maximised one neuron after the other, each time exactly; what it reaches is a lower bound of the
program's optimum, and where it is stationary h + lambda (a - 2 z) = 0 gives the multiplier lambda = ||h|| / ||a||, h
being the derivative of half the squared length by z. No step size, no projection.

Sources: [FRHMP19, theorem 2] for the program; [BM03] for the low-rank form; [Nes83] and [OC15] for the momentum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.slopes.arrays import NUMPY, ArrayLibrary
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers

__all__ = ["Multipliers", "VectorNetwork"]

# Below this share of the layer's largest one a multiplier is raised, so that no diagonal entry vanishes.
LEAST_SHARE = 1e-9
# Rows of X shorter than this share of the longest are as good as 0, in float32 too.
LEAST_LENGTH = 1e-30
# A product of norms up to which squares keep within float32.
MOST_IN_SINGLE = 1e17
# What rounding moves the length of the output by, relatively, in float64 and float32.
NOISE, SINGLE_NOISE = 1e-14, 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Multipliers:
    """What a certificate is made of.

    Attributes:
        layers: lambda of the free neurons, per hidden layer (free_l,), positive.
        inputs: t, (d,), positive: the shape of a diagonal that is to dominate the inputs' quadratic form.
    """

    layers: tuple[FloatArray, ...]
    inputs: FloatArray

    def raised(self, eta: float) -> Multipliers:
        """Multipliers times (1 + eta)^(L - l + 1): a little more room in every layer's inequality."""
        depth = len(self.layers)
        return Multipliers(tuple(part * (1 + eta) ** (depth - k) for k, part in enumerate(self.layers)), self.inputs)


class VectorNetwork:
    """The ascent and its state, so that it can go on where it stopped.

    Vectors go on beyond where a sweep puts them, by a share k / (k + 6) of how that differs from where the sweep before
    put them, k being the sweeps since the length last fell: momentum [Nes83] with restarts [OC15]. It saves most

    Args:
        layers: the slopes.
        p: 2 <= p <= inf, the norm on the inputs; for one input alone any p gives the same.
        rank: r; from 16 on the ascent has not been seen to end below the program's optimum.
        rng: draws the first vectors.
        arrays: what computes, and where.
        single: sweep in float32 but for the last sweep of every run: large networks are twice as fast.
        shape: (d,), positive, for p = 2: the inputs are those with sum_k shape_k x_k^2 <= 1, all ones when left out.
    """

    def __init__(
        self,
        layers: SlopeLayers,
        p: float,
        rank: int,
        rng: np.random.Generator,
        arrays: ArrayLibrary = NUMPY,
        *,
        single: bool = False,
        shape: FloatArray | None = None,
    ) -> None:
        self._layers, self._p, self._arrays = layers, p, arrays
        self.single = single and _fits_single(layers)
        self._weights: dict[bool, list[Any]] = {}
        self._shape = np.ones(layers.inputs) if shape is None else shape
        self._roots = arrays.given(np.sqrt(self._shape)[:, None], single=False)
        x = arrays.given(rng.standard_normal((layers.inputs, rank)), single=False)
        self._inputs = self._in_ball(x)
        self._directions = []
        for w, free in zip(layers.weights, layers.free, strict=True):
            s = arrays.given(rng.standard_normal((len(w), rank))[:free], single=False)
            self._directions.append(_unit_rows(arrays.module, s))
        # Where the last sweep put vectors, before they went on.
        self._placed = [self._inputs, *self._directions]
        self._since_fall, self._last = 0, 0.0
        self.reached: float = 0.0
        self.sweeps: int = 0

    def _in_ball(self, h: Any) -> Any:
        """The X with sum ||X_k||^p <= 1 that has the largest inner product with h (d, r)."""
        if self._p == 2:
            roots = self._arrays.cast(self._roots, single=h.dtype != self._roots.dtype)
            return self._drawn_into_ball(h / roots**2)
        lengths = _row_lengths(self._arrays.module, h)
        largest = float(lengths.max()) if len(lengths) else 0.0
        if largest == 0.0:
            return h
        scaled = (lengths / largest).clip(LEAST_LENGTH)
        if math.isinf(self._p):
            return h / (largest * scaled)[:, None]
        q = self._p / (self._p - 1)
        sizes = scaled ** (q - 1)
        return h * (sizes / (largest * scaled * float((sizes**self._p).sum()) ** (1 / self._p)))[:, None]

    def _drawn_into_ball(self, x: Any) -> Any:
        """X divided by sum ||X_k||^p, to the power 1 / p, X times roots of the shape; row by row for p = inf."""
        roots = self._arrays.cast(self._roots, single=x.dtype != self._roots.dtype)
        lengths = _row_lengths(self._arrays.module, x * roots)
        largest = float(lengths.max()) if len(lengths) else 0.0
        if largest == 0.0:
            return x
        if math.isinf(self._p):
            return x / (largest * (lengths / largest).clip(LEAST_LENGTH))[:, None]
        return x / (largest * float(((lengths / largest) ** self._p).sum()) ** (1 / self._p))

    def run(self, sweeps: int, enough: Callable[[], bool] = lambda: False) -> Multipliers:
        """So many sweeps, or until it is enough; the multipliers of the last one.

        `reached` is the best lower bound of the optimum, of sweeps in float64.
        """
        if self.single:
            for _ in range(sweeps - 1):
                if enough():
                    break
                self._sweep(single=True)
            sweeps = 1
        for _ in range(sweeps):
            found, shape = self._sweep(single=False)
            if enough():
                break
        arrays = self._arrays
        shape = self._shape if self._p == 2 else _floored(arrays.taken(shape))
        return Multipliers(tuple(_floored(arrays.taken(part)) for part in found), shape)

    def _begin(self, single: bool) -> tuple[list[Any], Any]:
        """The weights and the output in this precision; vectors that change to it are on their spheres again."""
        arrays = self._arrays
        if single not in self._weights:
            self._weights[single] = [arrays.given(w, single=single) for w in self._layers.weights]
        if self._inputs.dtype != self._weights[single][0].dtype:
            self._placed = [arrays.cast(part, single=single) for part in self._placed]
            self._inputs = self._drawn_into_ball(arrays.cast(self._inputs, single=single))
            self._directions = [
                _unit_rows(arrays.module, arrays.cast(part, single=single)) for part in self._directions
            ]
        return self._weights[single], arrays.given(self._layers.output, single=single)

    def _sweep(self, *, single: bool) -> tuple[list[Any], Any]:
        """One sweep; lambda per layer and the shape of t, not yet floored."""
        xp, free = self._arrays.module, self._layers.free
        weights, v = self._begin(single)
        z, before, lengths = self._inputs, [], []
        for w, count, s in zip(weights, free, self._directions, strict=True):
            a = w @ z
            size = _row_lengths(xp, a[:count])
            z = 0.5 * (a[:count] + size[:, None] * s)
            z = z if count == len(a) else xp.concatenate([z, a[count:]])
            before.append(a)
            lengths.append(size)
        y = v @ z
        length = math.sqrt(float((y * y).sum()))
        if not single:
            self.reached = max(self.reached, length)
        fell = length < self._last * (1 - (SINGLE_NOISE if single else NOISE))
        self._since_fall = 0 if fell else self._since_fall + 1
        self._last = length
        share = self._since_fall / (self._since_fall + 6)
        h = xp.outer(v, y)
        found: list[Any] = []
        for k in range(self._layers.depth - 1, -1, -1):
            count, a, size = free[k], before[k], lengths[k]
            length_h = _row_lengths(xp, h[:count])
            moved = length_h > 0
            s = xp.where(moved[:, None], h[:count] / xp.where(moved, length_h, 1.0)[:, None], self._directions[k])
            multiplier = length_h / xp.where(size > 0, size, 1.0)
            back = (0.5 * multiplier)[:, None] * (a[:count] + size[:, None] * s)
            back = back if count == len(a) else xp.concatenate([back, h[count:]])
            self._directions[k] = _unit_rows(xp, s + share * (s - self._placed[k + 1]))
            self._placed[k + 1] = s
            found.append(multiplier)
            h = weights[k].T @ back
        x = self._in_ball(h)
        lengths_x = _row_lengths(xp, x)
        # For p = 2 stationarity makes all quotients multiples of the shape.
        quotients = _row_lengths(xp, h) / xp.where(lengths_x > 0, lengths_x, 1.0)
        self._inputs = self._drawn_into_ball(x + share * (x - self._placed[0]))
        self._placed[0] = x
        self.sweeps += 1
        return found[::-1], quotients


def _fits_single(layers: SlopeLayers) -> bool:
    """Whether no product in a sweep leaves the range of float32: all lengths are at most the product of norms."""
    norms = [*(np.linalg.norm(w) for w in layers.weights), np.linalg.norm(layers.output)]
    return math.prod(max(float(norm), 1.0) for norm in norms) < MOST_IN_SINGLE


def _row_lengths(xp: Any, rows: Any) -> Any:
    return xp.sqrt(xp.einsum("ij,ij->i", rows, rows))


def _unit_rows(xp: Any, rows: Any) -> Any:
    return rows / _row_lengths(xp, rows)[:, None]


def _floored(values: FloatArray) -> FloatArray:
    largest = float(values.max(initial=0.0))
    return np.maximum(values, LEAST_SHARE * largest) if largest > 0 else np.ones_like(values)
