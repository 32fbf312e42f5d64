"""Multipliers for `slopes.proof` by the low-rank form of the semidefinite program's dual: a network of vectors.

Every input and every neuron holds a vector of r numbers. A free neuron with pre-activation a in R^r may take any value
on the sphere with a as diameter, (a + ||a|| s) / 2 with ||s|| = 1: all z with <z, a - z> >= 0 that are extreme. The
length of the output is maximised one neuron after the other, each time exactly; what it reaches is a lower bound of the
program's optimum, and where it is stationary h + lambda (a - 2 z) = 0 gives the multiplier lambda = ||h|| / ||a||, h
being the derivative of half the squared length by z. No step size, no projection.

Sources: [FRHMP19, theorem 2] for the program; [BM03] for the low-rank form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers

__all__ = ["Multipliers", "VectorNetwork"]

# Below this share of the layer's largest one a multiplier is raised, so that no diagonal entry vanishes.
LEAST_SHARE = 1e-9


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

    Args:
        layers: the slopes.
        p: 2 <= p <= inf, the norm on the inputs; for one input alone any p gives the same.
        rank: r; from 16 on the ascent has not been seen to end below the program's optimum.
        rng: draws the first vectors.
    """

    def __init__(self, layers: SlopeLayers, p: float, rank: int, rng: np.random.Generator) -> None:
        self._layers, self._p = layers, p
        x = rng.standard_normal((layers.inputs, rank))
        self._inputs = self._in_ball(x)
        self._directions = []
        for w, free in zip(layers.weights, layers.free, strict=True):
            s = rng.standard_normal((len(w), rank))[:free]
            self._directions.append(s / np.linalg.norm(s, axis=1, keepdims=True))
        self.reached: float = 0.0
        self.sweeps: int = 0
        self._found: Multipliers | None = None

    def _in_ball(self, h: FloatArray) -> FloatArray:
        """The X with sum ||X_k||^p <= 1 that has the largest inner product with h (d, r)."""
        lengths = np.sqrt(np.einsum("ij,ij->i", h, h))
        largest = float(lengths.max(initial=0.0))
        if largest == 0.0:
            return h
        if self._p == 2:
            return h / (largest * math.sqrt(float(((lengths / largest) ** 2).sum())))
        scaled = np.maximum(lengths / largest, 1e-150)
        if math.isinf(self._p):
            return h / (largest * scaled)[:, None]
        q = self._p / (self._p - 1)
        sizes = scaled ** (q - 1)
        return h * (sizes / (largest * scaled * float(vector_norm(sizes, self._p))))[:, None]

    def run(self, sweeps: int) -> Multipliers:
        """So many sweeps; the multipliers of the last one. `reached` is the best lower bound of the optimum."""
        weights, free, v = self._layers.weights, self._layers.free, self._layers.output
        for _ in range(sweeps):
            z = self._inputs
            before, lengths = [], []
            for w, count, s in zip(weights, free, self._directions, strict=True):
                a = w @ z
                size = np.sqrt(np.einsum("ij,ij->i", a[:count], a[:count]))
                z = a.copy()
                z[:count] += size[:, None] * s
                z[:count] *= 0.5
                before.append(a)
                lengths.append(size)
            y = v @ z
            self.reached = max(self.reached, float(np.linalg.norm(y)))
            h = np.outer(v, y)
            found: list[FloatArray] = []
            for k in range(self._layers.depth - 1, -1, -1):
                count, a, size = free[k], before[k], lengths[k]
                length = np.sqrt(np.einsum("ij,ij->i", h[:count], h[:count]))
                safe = np.where(length > 0, length, 1.0)
                s = np.where(length[:, None] > 0, h[:count] / safe[:, None], self._directions[k])
                multiplier = length / np.where(size > 0, size, 1.0)
                self._directions[k] = s
                back = h.copy()
                back[:count] = (0.5 * multiplier)[:, None] * (a[:count] + size[:, None] * s)
                found.append(multiplier)
                h = weights[k].T @ back
            lengths_h = np.sqrt(np.einsum("ij,ij->i", h, h))
            self._inputs = self._in_ball(h)
            lengths_x = np.sqrt(np.einsum("ij,ij->i", self._inputs, self._inputs))
            self.sweeps += 1
        # For p = 2 stationarity makes all quotients equal.
        shape = np.ones(len(h)) if self._p == 2 else lengths_h / np.where(lengths_x > 0, lengths_x, 1.0)
        return Multipliers(tuple(_floored(part) for part in reversed(found)), _floored(shape))


def _floored(values: FloatArray) -> FloatArray:
    largest = float(values.max(initial=0.0))
    return np.maximum(values, LEAST_SHARE * largest) if largest > 0 else np.ones_like(values)
