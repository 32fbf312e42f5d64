"""What region enumeration holds between two calls of `regions.kernels.advance`: codes, counters and arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray

__all__ = [
    "ANSWERED",
    "ASKED",
    "CELLS_TAKEN",
    "COUNT",
    "DONE",
    "DRAIN",
    "FRESH",
    "GROW",
    "IMPROVED",
    "LAYER",
    "NEXT",
    "PASSED",
    "PAUSED",
    "QUESTION",
    "REGIONS_MET",
    "SEEN",
    "START",
    "TOP",
    "Emission",
    "Questions",
    "Record",
    "Stack",
]

# Why `advance` came back.
DONE, PAUSED, GROW, QUESTION, IMPROVED, DRAIN = range(6)
# Places in `Stack.state`: index of the topmost cell, regions met and cells taken so far, whether the topmost region was
# looked at, questions about the topmost cell that were answered, all that were asked, cells passed over by their bound.
TOP, REGIONS_MET, CELLS_TAKEN, SEEN, ANSWERED, ASKED, PASSED = range(7)
# Columns of `Stack.cells`.
START, COUNT, LAYER, NEXT, FRESH = range(5)


class Stack(NamedTuple):
    """Cells that wait, the last one on top.

    Attributes:
        cells: (C, 5): first vertex and number of vertices in the pool, layer, the next kink of the layer to try, -1
            before the layer is looked at, and whether the cell was just cut out.
        signs: (C, L, n) int8; 0 for undecided and for identically zero pre-activations.
        points (P, k + 1), masks (P, W): the pool of vertices; the last column bounds the error of the coordinates.
        crossing (L, n), crossings (L,): neurons of a layer that change sign on the current cell of the layer below.
        base: (d,): part of the gradient that is common to all regions of the current cell of the last layer but one.
        state: counters.
        new_points, new_masks, old_points, old_masks, pairs (Q, 2), side (Q,), values (Q, 2): room for a split; values
            hold a pre-activation and its tolerance.
        sides (2, n), sums (n,): vertices below and above every kink of a layer, pre-activations.
        ranges (4, n), reach (d,): bounds of derivatives from layer to layer, and of those of the network in size.
    """

    cells: NDArray[np.int64]
    signs: NDArray[np.int8]
    points: FloatArray
    masks: NDArray[np.uint64]
    crossing: NDArray[np.int64]
    crossings: NDArray[np.int64]
    base: FloatArray
    state: NDArray[np.int64]
    new_points: FloatArray
    new_masks: NDArray[np.uint64]
    old_points: FloatArray
    old_masks: NDArray[np.uint64]
    pairs: NDArray[np.int64]
    side: NDArray[np.int8]
    values: FloatArray
    sides: NDArray[np.int64]
    sums: FloatArray
    ranges: FloatArray
    reach: FloatArray


class Questions(NamedTuple):
    """Signs that exact arithmetic has to tell: of `neuron` of the topmost cell's layer at pool row `vertex`."""

    vertex: NDArray[np.int64]
    neuron: NDArray[np.int64]
    sign: NDArray[np.int8]


class Record(NamedTuple):
    """Longest gradients.

    Attributes:
        exponents: (E,) dual exponents.
        top: (E,): largest norm so far.
        screen: (E,): regions with longer gradients are shown to the caller.
        floor: (E,): what the caller knows to be attained; -1 for nothing.
        gradient: (d,), of the last region.
        every: one entry, whether cells are subdivided also where no longer gradients can lie.
    """

    exponents: FloatArray
    top: FloatArray
    screen: FloatArray
    floor: FloatArray
    gradient: FloatArray
    every: NDArray[np.bool_]


class Emission(NamedTuple):
    """Regions for the caller: signs (R, L, n), gradients (R, d), first vertex and number (R, 2), vertices (V, k).

    `used` holds the numbers of regions and vertices written; no regions are written where R = 0.
    """

    signs: NDArray[np.int8]
    gradients: FloatArray
    spans: NDArray[np.int64]
    points: FloatArray
    used: NDArray[np.int64]
