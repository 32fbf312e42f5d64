"""Gaussian mean width w(A) = E sup_{x in A} |<g, x>|, g ~ N(0, I_d), of finite sets, by Monte Carlo.

Source: [Ver18, section 7.5]; with the absolute value as in [DFG24].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError

__all__ = ["MeanWidth", "mean_width", "widest_possible"]

# Products <g, x> held at once: 32 MB.
BLOCK_NUMBERS = 2**22


@dataclass(frozen=True, slots=True)
class MeanWidth:
    """An estimate.

    Attributes:
        value: mean over the draws, in units of length.
        error: its standard error; 0 for a set that is {0}.
        draws: Gaussian vectors drawn.
    """

    value: float
    error: float
    draws: int


def mean_width(points: FloatArray, directions: FloatArray) -> MeanWidth:
    """Estimate w of a finite set.

    Args:
        points: shape (m, d), m >= 1: the set A.
        directions: shape (draws, d), independent standard Gaussian rows, at least two.
    Raises:
        InputError: no points, too few directions, or different dimensions.
    """
    if points.ndim != 2 or len(points) == 0:
        raise InputError(f"a mean width needs points of shape (m, d) with m >= 1, got {points.shape}")
    if directions.ndim != 2 or len(directions) < 2 or directions.shape[1] != points.shape[1]:
        raise InputError(
            f"directions must have shape (draws, d) = (2 or more, {points.shape[1]}), got {directions.shape}"
        )
    largest = np.zeros(len(directions))
    step = max(1, BLOCK_NUMBERS // len(directions))
    for start in range(0, len(points), step):
        np.maximum(largest, np.abs(points[start : start + step] @ directions.T).max(axis=0), out=largest)
    error = float(largest.std(ddof=1)) / math.sqrt(len(largest))
    return MeanWidth(float(largest.mean()), error, len(largest))


def widest_possible(radius: float, points: int, dimension: int) -> float:
    """A bound on w of m nonzero points of length at most r in R^d: r min(sqrt(d), sqrt(2 log(2 m))).

    Source: E ||g||_2 <= sqrt(d), and the maximal inequality for 2 m Gaussian variables [Ver18, 2.5.10].
    """
    if points == 0:
        return 0.0
    return radius * min(math.sqrt(dimension), math.sqrt(2.0 * math.log(2.0 * points)))
