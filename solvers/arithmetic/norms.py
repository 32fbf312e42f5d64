"""The exponents p in [1, inf], their duals, and vector norms that neither overflow nor underflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.errors import InputError

__all__ = [
    "FloatArray",
    "check_exponent",
    "dual_exponent",
    "exponent_label",
    "parse_exponent",
    "scalar_norm",
    "vector_norm",
]

FloatArray: TypeAlias = NDArray[np.float64]


def check_exponent(p: float) -> float:
    """Return `p` as a float, or raise InputError unless 1 <= p <= inf."""
    value = float(p)
    if math.isnan(value) or value < 1:
        raise InputError(f"p must lie in [1, inf], got {p}: below 1 it is not a norm")
    return value


def parse_exponent(text: str | float) -> float:
    """Read an exponent from the command line or JSON: a number or "inf".

    Raises:
        InputError: not a number, or below 1.
    """
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise InputError(f"p must be a number in [1, inf] or 'inf', got {text!r}") from None
    return check_exponent(value)


def exponent_label(p: float) -> str:
    """Shortest text that reads back as `p`: 'inf', '2', '1.25'."""
    return "inf" if math.isinf(p) else f"{p:g}" if float(f"{p:g}") == p else repr(p)


def dual_exponent(p: float) -> float:
    """The p' with 1/p + 1/p' = 1; 1 and inf are dual to each other."""
    p = check_exponent(p)
    if p == 1:
        return math.inf
    if math.isinf(p):
        return 1.0
    return p / (p - 1)


def vector_norm(vectors: FloatArray, exponent: float, axis: int = -1) -> FloatArray:
    """l_q norm along one axis, with q = `exponent` in [1, inf].

    Each vector is scaled by its largest entry before powers are taken, so no exponent over- or underflows.

    Args:
        vectors: array of any shape; float64.
        exponent: q.
        axis: the axis that the norm removes.
    Returns:
        Array of the remaining shape.
    """
    q = check_exponent(exponent)
    sizes = np.abs(np.asarray(vectors, dtype=np.float64))
    if math.isinf(q):
        return sizes.max(axis=axis, initial=0.0)
    if q == 1:
        return sizes.sum(axis=axis)
    largest = sizes.max(axis=axis, keepdims=True, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    total = ((sizes / scale) ** q).sum(axis=axis)
    return np.squeeze(scale, axis=axis) * total ** (1 / q)


def scalar_norm(vector: Sequence[float], exponent: float) -> float:
    """l_q norm of one vector, with correctly rounded sums: the same bits on every machine with the same libm.

    Relative error below 1e-15 (a few units in the last place).
    """
    q = check_exponent(exponent)
    sizes = [abs(value) for value in vector]
    largest = max(sizes, default=0.0)
    if largest == 0 or math.isinf(q):
        return largest
    if q == 1:
        return math.fsum(sizes)
    return largest * math.fsum([(size / largest) ** q for size in sizes]) ** (1 / q)
