"""Programs made safe for a solver: every number of order 1, every row with room for the solver's tolerances.

A solver removes small coefficients, and takes for infeasible what violates a row by its tolerance in some sum of rows.
Neither may lose a gradient, so a program is replaced by one that holds every point of the given one with room:

- columns are multiplied by powers of two until their ranges are about [-1, 1], and rows divided by powers of two where
  a coefficient is larger than LARGEST;
- coefficients below SMALLEST leave, and their largest effect goes to the right-hand side;
- right-hand sides give way by ROOM, several tolerances of the solver, and by the rounding of the row;
- a row that cannot be written down like this (terms that cancel to less than CANCELLED of their size) is left out.

An equation that defines a column stays one: the column then is what the rounded row says, and the rows and the range
that hold it give way by the difference. So the solver's bound is one of the given program, a little larger; where its
numbers are far apart it is much larger, but no less a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.programs.affine_rows import AffineRows, Variables

__all__ = ["ROUNDING", "OutwardProgram", "outward"]

# Share of the sizes of its terms that rounding can change a row by, with much to spare.
ROUNDING = 1e-12
ROOM = 4e-9
SMALLEST = 2.0**-27
LARGEST = 2.0**10
CANCELLED = 2.0**-20


@dataclass(frozen=True, slots=True, eq=False)
class OutwardProgram:
    """`below` x + `below_constant` <= 0 and `zero` x + `zero_constant` = 0, low <= x <= high.

    Attributes:
        unit: (columns,), powers of two: a column of the given program is its unit times x.
    """

    below: FloatArray
    below_constant: FloatArray
    zero: FloatArray
    zero_constant: FloatArray
    low: FloatArray
    high: FloatArray
    unit: FloatArray


def outward(variables: Variables, rows: Sequence[AffineRows], kept: int) -> OutwardProgram:
    """The program: variables within their ranges, their definitions, and all rows <= 0.

    Args:
        kept: the column that is maximised; its unit stays.
    """
    columns = len(variables.low)
    low, high, binary = np.array(variables.low), np.array(variables.high), np.array(variables.binary)
    unit = _power_of_two(np.maximum(np.abs(low), np.abs(high)))
    unit[binary] = 1.0
    unit[kept] = 1.0
    low, high = low / unit, high / unit
    # How far the program's columns may be from the given ones.
    errors = np.zeros(columns)
    zero, zero_constant = [], []
    for start, defining in variables.definitions:
        own = np.arange(start, start + len(defining.constant))
        matrix = -defining.widened(columns) * unit
        matrix[np.arange(len(own)), own] += unit[own]
        constant, size = -defining.constant, defining.size + unit[own]
        matrix, constant, size = _scaled(matrix, constant, size, unit[own])
        matrix, lost = _without_small(matrix, low, high)
        share = matrix[np.arange(len(own)), own]
        told = (share >= CANCELLED) & (low[own] < high[own])
        errors[own[told]] = (lost + ROUNDING * size + np.abs(matrix) @ errors)[told] / share[told]
        room = np.zeros(len(own))
        room[told] = ROOM / share[told]
        low[own] -= errors[own] + room
        high[own] += errors[own] + room
        zero.append(matrix[told])
        zero_constant.append(constant[told])
    whole = [block.widened(columns) * unit for block in rows]
    matrix, constant = np.concatenate(whole), np.concatenate([block.constant for block in rows])
    size = np.concatenate([block.size for block in rows])
    matrix, constant, size = _scaled(matrix, constant, size, np.zeros(len(constant)))
    matrix, lost = _without_small(matrix, low, high)
    constant = constant - lost - ROUNDING * size - np.abs(matrix) @ errors - ROOM
    most = np.maximum(matrix * low, matrix * high).sum(axis=1) + constant
    used = most > 0
    return OutwardProgram(
        matrix[used],
        constant[used],
        np.concatenate([*zero, np.zeros((0, columns))]),
        np.concatenate([*zero_constant, np.zeros(0)]),
        low,
        high,
        unit,
    )


def _power_of_two(sizes: FloatArray) -> FloatArray:
    """At most twice the sizes and no less; 1 for 0."""
    return np.asarray(np.ldexp(1.0, np.frexp(np.where(sizes > 0, sizes, 1.0))[1]))


def _scaled(
    matrix: FloatArray, constant: FloatArray, size: FloatArray, wanted: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows divided by their wanted unit (0: their largest coefficient, if below 1), or until none is above LARGEST."""
    largest = _power_of_two(np.abs(matrix).max(axis=1))
    divisor = np.maximum(np.where(wanted > 0, wanted, np.minimum(largest, 1.0)), largest / LARGEST)
    return matrix / divisor[:, None], constant / divisor, size / divisor


def _without_small(matrix: FloatArray, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The matrix without coefficients below SMALLEST, and what each row can lose by that."""
    small = np.abs(matrix) < SMALLEST
    reach = np.maximum(np.abs(low), np.abs(high))
    return np.where(small, 0.0, matrix), np.where(small, np.abs(matrix), 0.0) @ reach
