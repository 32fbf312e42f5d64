"""Replays multipliers of slopes at leaves: signs of the leaf decide slopes, multipliers bound what the others may be.

On every linear region of a leaf a neuron has slope 0 or 1, and that of its sign where it is decided. So if the matrix
of `slope_inequality` is positive definite for t, the region's gradient g has (g x)^2 <= sum t_k x_k^2 for all x in R^d:
for p >= 2 it is no longer than sqrt ||t||_{p / (p - 2)}, and below, with components up to c, no longer than

    |g|_q <= |g|_2^{2 / q} c^{1 - 2 / q},   q dual to p.

The certificate names multipliers and the shape of t; its size is what the claim allows for, and c is found here.

A number is named by a code c = 64 e + r, 0 <= r < 64, for (64 + r) 2^(e - 7).

Source: [FRHMP19, theorem 2].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.rounding import EPSILON
from solvers.checkers.balanced import bound_below
from solvers.checkers.slope_inequality import ScaledSlopes, SlopeInequality, columns_hold, dominates
from solvers.problems.facets import BoundedPiece

__all__ = ["SlopeLeaves"]

# Codes keep to these sizes: far from under- and overflow.
MOST_CODE = 64 * 460
# Taken off t for what float64 loses in powers and norms of at most thousands of numbers.
LOST = 1e-10
# Above what the largest component is estimated to be, so that it is proved to be no larger.
ROOM = 1e-8
# Logarithm of a ratio of two bounds on one gradient, beyond which the weaker one is not made weaker.
MOST_LOGARITHM = 100.0


class SlopeLeaves:
    """The slopes of one piece, along the inputs that its gradients are taken by.

    Raises:
        ValueError: weights that no scaling brings near each other.
    """

    def __init__(self, piece: BoundedPiece) -> None:
        self.p, self.q = piece.problem.p, piece.problem.dual_p
        self.slopes = ScaledSlopes.of([piece.inputs, *piece.network.weights[1:]], [])

    def are_short(
        self,
        signs: list[NDArray[np.int8]],
        neurons: Sequence[tuple[int, int]],
        codes: Sequence[int],
        upper: float,
    ) -> bool:
        """Whether the multipliers prove that no gradient under the signs is longer than `upper`.

        Args:
            signs: for every layer (n_m,), 0 where a neuron is undecided.
            neurons: layer and neuron, each once, of every multiplier.
            codes: of the multipliers and, where it is not the same for all inputs, of the shape of t.

        Raises:
            ValueError: what is named are no multipliers.
            ArithmeticError: something leaves the range of float64.
        """
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            return self._are_short(signs, neurons, codes, upper)

    def _are_short(
        self,
        signs: list[NDArray[np.int8]],
        neurons: Sequence[tuple[int, int]],
        codes: Sequence[int],
        upper: float,
    ) -> bool:
        here = replace(self.slopes, signs=signs)
        if self.p == 1 or not upper >= 0:
            return False
        if here.is_constant:
            return True
        d = here.weights[0].shape[1]
        values = _decoded(codes)
        if len(set(neurons)) != len(neurons) or len(values) - len(neurons) not in (0, d):
            raise ValueError(f"there must be a code for each of {len(neurons)} neurons, and for {d} inputs or for none")
        layers = [np.zeros(len(sign)) for sign in signs]
        for (layer, neuron), value in zip(neurons, values.tolist(), strict=False):
            layers[layer][neuron] = value
        shape = values[len(neurons) :] if len(values) > len(neurons) else np.ones(d)
        inequality = SlopeInequality(here, layers)
        limit = bound_below(upper, here.exponent)
        t = self._above_two(limit, shape) if self.p >= 2 else self._below_two(limit, inequality)
        return t is not None and dominates(inequality, t)

    def _above_two(self, limit: float, shape: FloatArray) -> FloatArray | None:
        """The largest t of the shape with sqrt ||t||_{p / (p - 2)} <= limit, nearly."""
        exponent = 1.0 if np.isinf(self.p) else np.inf if self.p == 2 else self.p / (self.p - 2)
        return _ordinary(shape / float(vector_norm(shape, exponent)) * (limit * limit * (1 - LOST)))

    def _below_two(self, limit: float, inequality: SlopeInequality) -> FloatArray | None:
        """The largest t, the same for all inputs, with t^(1 / q) c^(1 - 2 / q) <= limit, nearly; c is proved first."""
        d = len(inequality.output)
        whole = 0.5 * (inequality.inner + inequality.inner.T) + np.diag(inequality.diagonal)
        squares = np.einsum("ij,ij->j", inequality.mixed, np.linalg.solve(whole, inequality.mixed))
        largest = math.sqrt(max(float((squares + inequality.output**2).max()), 0.0)) * (1 + ROOM)
        if not 0 < largest < np.inf or not columns_hold(inequality, np.arange(d), np.full(d, largest)):
            return None
        logarithm = min((self.q - 2) * math.log(limit / largest), MOST_LOGARITHM)
        lost = LOST + 64 * (self.q + 8) * (1 + abs(math.log(limit / largest))) * EPSILON
        return _ordinary(np.full(d, limit * limit * math.exp(logarithm) * (1 - lost)))


def _decoded(codes: Sequence[int]) -> FloatArray:
    whole = np.array(codes, dtype=np.int64)
    if whole.ndim != 1 or not (np.abs(whole) <= MOST_CODE).all():
        raise ValueError(f"codes must be whole numbers of size at most {MOST_CODE}")
    return np.asarray(np.ldexp((64 + whole % 64).astype(np.float64), (whole // 64 - 7).astype(np.int32)))


def _ordinary(t: FloatArray) -> FloatArray | None:
    """t, if all its entries are positive and far from under- and overflow."""
    return t if ((t > 1e-140) & (t < 1e140)).all() else None
