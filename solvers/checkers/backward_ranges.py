"""Ranges of pre-activations from lines carried backward, with slopes that a certificate names, rounded outward.

Written for checkers, beside `outward_ranges`: an implementation of its own, and no import of the search's. Over its
range [l, u] an undecided ReLU lies above a z for every a in [0, 1], and below c z + e for every c, once e is at least
-c l and (1 - c) u. Whatever a certificate names for a, the range is true; what it does not name is 1 where u > -l,
else 0.

Layers are scaled (`balanced`), so that all sizes are below 1 and errors count what underflow can hide.

Sources: CROWN [ZWCHD18]; [Hig02, section 3.1] for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.checkers.balanced import FLOOR, Balanced
from solvers.checkers.outward_ranges import BLOCK, LEAST_ERROR, Nodes, PieceNetwork, U

__all__ = ["tighten_backward"]


def tighten_backward(piece: PieceNetwork, node: Nodes, named: Sequence[Mapping[str, Any]]) -> None:
    """Tighten the ranges of a single node, and decide neurons, from the second layer on, in place.

    Args:
        named: for some layers a mapping: `layer`; `rows`, 2 i for the lower end of the range of neuron i, 2 i + 1 for
            the upper; `before`, for every earlier layer `neurons`, and `values`, a slope for each row and neuron.

    Raises:
        ValueError, KeyError, TypeError: the slopes are none.
    """
    slopes = {int(part["layer"]): _Slopes(part, piece) for part in named}
    if len(slopes) != len(named):
        raise ValueError("slopes are named twice for a layer")
    for m in range(1, len(piece.ranges)):
        open_ = np.flatnonzero(node.signs[m][0] == 0)
        step = max(1, BLOCK // max(len(layer.biases) for layer in piece.ranges[:m]))
        for start in range(0, len(open_), step):
            here = open_[start : start + step]
            least = _least(piece, node, m, 2 * here, slopes.get(m))
            most = -_least(piece, node, m, 2 * here + 1, slopes.get(m))
            low, high, signs = node.low[m][0], node.high[m][0], node.signs[m][0]
            low[here], high[here] = np.fmax(low[here], least), np.fmin(high[here], most)
            signs[here[low[here] >= 0]] = 1
            signs[here[high[here] <= 0]] = -1


class _Slopes:
    """What a certificate names for one layer: by row, for neurons of earlier layers."""

    def __init__(self, part: Mapping[str, Any], piece: PieceNetwork) -> None:
        layer = int(part["layer"])
        if not 0 < layer < len(piece.ranges):
            raise ValueError(f"there is no range to tighten in layer {layer}")
        self.rows = _places(part["rows"], 2 * len(piece.ranges[layer].biases), "rows")
        if len(part["before"]) != layer:
            raise ValueError(f"slopes for layer {layer} must be named for each of {layer} layers")
        self.before: list[tuple[NDArray[np.int64], FloatArray]] = []
        for before, named in zip(piece.ranges, part["before"], strict=False):
            neurons = _places(named["neurons"], len(before.biases), "neurons")
            values, shape = np.array(named["values"], dtype=np.float64), (len(self.rows), len(neurons))
            if values.shape != shape and (values.size or 0 not in shape):
                raise ValueError(f"slopes must have shape {shape}, got {values.shape}")
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError("a slope below a neuron must lie in [0, 1]")
            self.before.append((neurons, values))

    def enter(self, j: int, rows: NDArray[np.int64], below: FloatArray, open_: NDArray[np.bool_]) -> None:
        """Put what is named for an earlier layer into its slopes below (R, n), where neurons are undecided."""
        neurons, values = self.before[j]
        if not values.size:
            return
        known = np.flatnonzero(np.isin(rows, self.rows))
        order = np.argsort(self.rows)
        theirs = order[np.searchsorted(self.rows, rows[known], sorter=order)]
        still = open_[neurons]
        below[np.ix_(known, neurons[still])] = values[np.ix_(theirs, np.flatnonzero(still))]


def _places(values: Any, count: int, what: str) -> NDArray[np.int64]:
    found = np.array(values)
    if found.ndim != 1 or (found.size and found.dtype.kind != "i"):
        raise ValueError(f"{what} must be a list of whole numbers")
    found = found.astype(np.int64)
    if not ((found >= 0) & (found < count)).all() or len(np.unique(found)) != len(found):
        raise ValueError(f"{what} must be different numbers from 0 to {count - 1}")
    return found


def _least(piece: PieceNetwork, node: Nodes, layer: int, rows: NDArray[np.int64], slopes: _Slopes | None) -> FloatArray:
    """Lower bounds (R,) of z_i for rows 2 i, of -z_i for rows 2 i + 1; NaN or -inf where there are none."""
    top = piece.ranges[layer]
    turn = np.where(rows % 2, -1.0, 1.0)
    coefficients = turn[:, None] * (top.plus + top.minus)[rows // 2]
    total = turn * top.biases[rows // 2]
    size, hidden, terms = top.large_biases[rows // 2].copy(), np.ones(len(rows)), 16.0
    for j in range(layer - 1, -1, -1):
        before = piece.ranges[j]
        low, high, signs = node.low[j][0], node.high[j][0], node.signs[j][0]
        open_, on = (signs == 0) & (low < 0) & (high > 0), (signs > 0) | ((signs == 0) & (low >= 0) & (high > 0))
        chord = np.where(open_, np.minimum(high / np.where(open_, high - low, 1.0), 1.0), on)
        lift = np.where(open_, np.maximum(-chord * low, (1 - chord) * high) * (1 + 8 * U) + LEAST_ERROR, 0.0)
        below = np.repeat(np.where(open_, high > -low, on).astype(np.float64)[None], len(rows), axis=0)
        if slopes is not None:
            slopes.enter(j, rows, below, open_)
        up, down = np.maximum(coefficients, 0.0), np.minimum(coefficients, 0.0)
        passed = up * below + down * chord
        total += passed @ before.biases + down @ lift
        size += np.abs(passed) @ _sizes(piece, node, j) + np.abs(down) @ lift
        # What underflow, also that of scaling, takes from products and weights is far below this, times what follows.
        hidden += np.abs(passed).sum(axis=1)
        coefficients = passed @ (before.plus + before.minus)
        terms += 2 * len(before.biases) + 4
    ends = np.where(coefficients > 0, piece.low, piece.high)
    total += (coefficients * ends).sum(axis=1)
    size += np.abs(coefficients) @ np.maximum(np.abs(piece.low), np.abs(piece.high))
    terms += 2 * len(piece.low)
    return np.asarray(total - 4 * terms * U * size - terms * LEAST_ERROR * hidden)


def _sizes(piece: PieceNetwork, node: Nodes, layer: int) -> FloatArray:
    """At least |W| |a| + |b| of a layer, (n,), with weights and biases no smaller than FLOOR where they are not 0."""
    scaled: Balanced = piece.ranges[layer]
    if layer == 0:
        reach = np.maximum(np.abs(piece.low), np.abs(piece.high))
    else:
        dead = node.signs[layer - 1][0] < 0
        reach = np.where(dead, 0.0, np.maximum(node.high[layer - 1][0], FLOOR))
    return np.asarray((scaled.large @ reach + scaled.large_biases) * (1 + (len(reach) + 8) * U) + LEAST_ERROR)
