"""Slopes of neurons that a box fixes, for bounds that know no more of a neuron than whether its slope is 0, 1 or free.

Ranges carried forward (`bounds.ranges`), tightened by those carried backward with optimised slopes. A checker finds the
signs again from these slopes, rounded elsewhere; so only what keeps clear of 0 counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.lipschitz.bounds.pattern_bounds import settle
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.relaxation.tightened import BoxLayers, Ranges, RowSlopes, tighten
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem

__all__ = ["FixedSlopes", "fixed_slopes"]

# Multiplications of ranges over a box: more are not worth it, and so many are sure to be made in a second.
MOST_RANGES, SURE_RANGES = 3 * 10**9, 10**8
# A range decides a neuron if it keeps clear of 0 by this share of what adds up in it: a checker's, rounded elsewhere,
# then does too.
CLEAR = 1e-9
# The share of the time that slopes of lines may take.
SHARE = 0.25


class FixedSlopes(NamedTuple):
    """Which slopes a box fixes.

    Attributes:
        signs: per hidden layer (n,): 1 for slope 1, -1 for slope 0, 0 for any; None where nothing was looked at.
        listed: what a checker needs to find them again: slopes of lines, as `RowSlopes`, in numbers of JSON; None where
            ranges carried forward suffice.
    """

    signs: Sequence[NDArray[np.int8]] | None
    listed: list[dict[str, Any]] | None


def fixed_slopes(problem: LipschitzProblem, box: Box, deadline: Deadline) -> FixedSlopes:
    """The slopes that a box fixes; none where time or the size of the problem allow no ranges."""
    network = problem.network
    work = network.input_dimension * sum(w.size for w in network.weights[:-1])
    if work > min(MOST_RANGES, SURE_RANGES * deadline.remaining):
        return FixedSlopes(None, None)
    arrays = PieceArrays.of(solid_piece(problem, box), None)
    shape = arrays.kernel.biases.shape
    low, high, signs = np.full(shape, -np.inf), np.full(shape, np.inf), np.zeros(shape, dtype=np.int8)
    settle(arrays, signs, low, high)
    widths = network.widths
    ranges = Ranges(
        [low[m, :n] for m, n in enumerate(widths)],
        [high[m, :n] for m, n in enumerate(widths)],
        [signs[m, :n] for m, n in enumerate(widths)],
    )
    layers = BoxLayers(network.weights[:-1], network.biases[:-1], box.lower, box.upper)
    forward = _clear(layers, ranges)
    share = deadline.remaining * SHARE
    used = tighten(layers, ranges, deadline=Budget(seconds=share).start() if math.isfinite(share) else None)
    found = _clear(layers, ranges)
    if all((a == b).all() for a, b in zip(forward, found, strict=True)):
        return FixedSlopes(forward, None)
    return FixedSlopes(
        found, [_as_numbers(part, found[-1] if part.layer == len(widths) - 1 else None) for part in used]
    )


def _clear(layers: BoxLayers, ranges: Ranges) -> list[NDArray[np.int8]]:
    found = []
    reach = np.maximum(np.abs(layers.low), np.abs(layers.high))
    for w, b, low, high in zip(layers.weights, layers.biases, ranges.low, ranges.high, strict=True):
        clear = CLEAR * (np.abs(w) @ reach + np.abs(b))
        found.append((low > clear).astype(np.int8) - (high < -clear).astype(np.int8))
        reach = np.maximum(high, 0.0)
    return found


def _as_numbers(part: RowSlopes, last: NDArray[np.int8] | None) -> dict[str, Any]:
    """A layer's slopes; of the last layer, whose ranges nothing else rests on, those that decided a neuron."""
    kept = np.arange(len(part.rows))
    if last is not None:
        kept = np.flatnonzero(last[part.rows // 2] == np.where(part.rows % 2, -1, 1))
    before = [
        {"neurons": neurons.tolist(), "values": values[kept].tolist()}
        for neurons, values in zip(part.neurons, part.values, strict=True)
    ]
    return {"layer": part.layer, "rows": part.rows[kept].tolist(), "before": before}
