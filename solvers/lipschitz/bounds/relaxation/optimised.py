"""Slopes below undecided neurons that raise lower bounds: ascent on all rows at once, every row with slopes of its own.

Every slope in [0, 1] gives a bound, so nothing here needs a proof; where the bound is not smooth, any of its
derivatives serves. Steps have one size in all coordinates at first (Adam [KB15]), and shrink; a row keeps its best.

Source: slopes as variables, [XZWWJLH21].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.relaxation.chain import BLOCK, Chain, bounds_below
from solvers.problems.budget import Deadline

__all__ = ["ascended"]

# The first step, and what is left of it after every other one.
FIRST_STEP, DECAY = 0.5, 0.85
# Shares of the past in the means of derivatives and of their squares.
MEAN, SQUARE = 0.5, 0.999
# A row whose bound grew by no larger a share of its size, in so many steps, has come to rest.
RESTING, LOOK_BACK = 1e-4, 5


def ascended(
    chain: Chain,
    rows: FloatArray,
    offsets: FloatArray,
    start: Sequence[FloatArray],
    steps: int,
    deadline: Deadline,
) -> list[FloatArray]:
    """Slopes per step of the chain, (R, n), in [0, 1].

    Args:
        rows, offsets: as for `chain.lower_bounds`.
        start: slopes to begin with, (R, n) per step of the chain.
        steps: so many at most; fewer when time is up.
    """
    found = [slopes.copy() for slopes in start]
    size = max(1, BLOCK // (4 * chain.widest))
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        with np.errstate(over="ignore", invalid="ignore"):
            best = _climb(chain, rows[part], offsets[part], [slopes[part] for slopes in start], steps, deadline)
        for kept, slopes in zip(found, best, strict=True):
            kept[part] = slopes
    return found


def _climb(
    chain: Chain, rows: FloatArray, offsets: FloatArray, start: list[FloatArray], steps: int, deadline: Deadline
) -> list[FloatArray]:
    slopes, best = [s.copy() for s in start], [s.copy() for s in start]
    mean, square = [np.zeros_like(s) for s in start], [np.zeros_like(s) for s in start]
    reached = np.full(len(rows), -np.inf)
    history = []
    step = FIRST_STEP
    for count in range(1, steps + 2):
        values, growth = bounds_below(chain, rows, offsets, slopes)
        better = values > reached
        reached = np.where(better, values, reached)
        for kept, now in zip(best, slopes, strict=True):
            kept[better] = now[better]
        history.append(reached)
        resting = count > LOOK_BACK and bool((reached - history[-1 - LOOK_BACK] <= RESTING * np.abs(reached)).all())
        if count > steps or resting or deadline.is_over:
            break
        for now, m, v, g in zip(slopes, mean, square, growth, strict=True):
            m += (1 - MEAN) * (g - m)
            v += (1 - SQUARE) * (g * g - v)
            size = np.sqrt(v / (1 - SQUARE**count))
            direction = np.divide(m / (1 - MEAN**count), size, out=np.zeros_like(m), where=size > 0)
            now += step * direction
            np.clip(now, 0.0, 1.0, out=now)
        step *= DECAY
    return best
