"""Affine functions of the variables of a program, as rows of numbers.

An expression tree of a few hundred atoms costs a modelling language more than small programs cost their solver; the
same model handed over as two matrices does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from solvers.arithmetic.norms import FloatArray

__all__ = ["AffineRows", "Variables"]


@dataclass(frozen=True, slots=True, eq=False)
class AffineRows:
    """x -> `matrix` x + `constant`; columns that are not there yet count as zero.

    Attributes:
        matrix: (rows, columns known when it was made).
        constant: (rows,).
        size: (rows,), no less than the sum of the sizes of all terms that were added up: what rounding is relative to.
    """

    matrix: FloatArray
    constant: FloatArray
    size: FloatArray

    @classmethod
    def fixed(cls, values: ArrayLike) -> AffineRows:
        """Constant functions."""
        constant = np.atleast_1d(np.asarray(values, dtype=np.float64))
        return cls(np.zeros((len(constant), 0)), constant, np.abs(constant))

    def __add__(self, other: AffineRows | FloatArray) -> AffineRows:
        if not isinstance(other, AffineRows):
            return AffineRows(self.matrix, self.constant + other, self.size + np.abs(other))
        width = max(self.matrix.shape[1], other.matrix.shape[1])
        matrix = self.widened(width) + other.widened(width)
        return AffineRows(matrix, self.constant + other.constant, self.size + other.size)

    def __neg__(self) -> AffineRows:
        return AffineRows(-self.matrix, -self.constant, self.size)

    def __sub__(self, other: AffineRows | FloatArray) -> AffineRows:
        return self + (-other)

    def times(self, factors: FloatArray) -> AffineRows:
        """Every row times its factor, (rows,)."""
        return AffineRows(self.matrix * factors[:, None], self.constant * factors, self.size * np.abs(factors))

    def mapped(self, matrix: FloatArray) -> AffineRows:
        """`matrix` (m, rows) applied to the values."""
        return AffineRows(matrix @ self.matrix, matrix @ self.constant, np.abs(matrix) @ self.size)

    def widened(self, columns: int) -> FloatArray:
        """The matrix with at least that many columns."""
        return np.pad(self.matrix, ((0, 0), (0, columns - self.matrix.shape[1])))

    def value(self, x: FloatArray) -> FloatArray:
        """At a point that holds all columns."""
        return self.matrix @ x[: self.matrix.shape[1]] + self.constant


@dataclass(slots=True, eq=False)
class Variables:
    """The columns of a program: ranges, which are 0 or 1, and what defines them.

    Attributes:
        definitions: (first column, rows): these columns equal the rows.
    """

    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    binary: list[bool] = field(default_factory=list)
    definitions: list[tuple[int, AffineRows]] = field(default_factory=list)

    def add(self, low: FloatArray, high: FloatArray, *, binary: bool = False) -> AffineRows:
        """New variables within ranges (n,)."""
        start = len(self.low)
        self.low += low.tolist()
        self.high += high.tolist()
        self.binary += [binary] * len(low)
        size = np.maximum(np.abs(low), np.abs(high))
        return AffineRows(np.eye(len(low), len(self.low), start), np.zeros(len(low)), size)

    def define(self, rows: AffineRows, low: FloatArray, high: FloatArray) -> AffineRows:
        """New variables that equal affine functions, so that a dense row is written down once."""
        self.definitions.append((len(self.low), rows))
        return self.add(low, high)
