"""The neurons that points of a class give, and which points of the class they cover.

A point x* gives the mask u = 1[Phi(x*) = 0] and m = min <u, Phi(x+)> over the other classes; where m > 0 the neuron
covers every x with <u, Phi(x)> < m. Source: [DFG24, Algorithm 2, lines 5 to 9].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.threads import spread
from solvers.bits.features import Words
from solvers.bits.firing import Whole
from solvers.bits.instructions import LANES, lanes_below
from solvers.bits.minima import improve, improve_others, new_memory, remember

__all__ = ["Neurons", "covered_rows", "point_neurons"]

TOGETHER = 32


class Neurons(NamedTuple):
    """Second-layer neurons of one class that may be chosen.

    Attributes:
        places: of the points they were made from, (C,). masks: u, (C, depth). thresholds: m, (C,).
        covers: the points of the class that each covers, (C, blocks of the class), one bit a point.
    """

    places: Whole
    masks: Words
    thresholds: Whole
    covers: Words


def point_neurons(
    blocks: Words, first: int, last: int, valid: Words, places: Whole, wanted: Words, threads: int = 1
) -> Neurons:
    """The neurons that points of the class in blocks first..last-1 give; those with m = 0 cover nothing.

    Args:
        blocks: (B, depth, 64). valid: (depth,).
        places: of the points.
        wanted: the points of the class that coverage is asked for, (last - first,).
        threads: that share the points; the answer is the same for all.
    """
    found = Neurons(
        places,
        np.empty((len(places), blocks.shape[1]), dtype=np.uint64),
        np.empty(len(places), dtype=np.int64),
        np.zeros((len(places), last - first), dtype=np.uint64),
    )

    def fill(start: int) -> None:
        part = slice(start, start + step)
        _fill(blocks, first, last, valid, places[part], wanted, *(array[part] for array in found[1:]))

    step = max(TOGETHER, -(-len(places) // (4 * threads)))
    spread(fill, range(0, len(places), step), threads)
    return found


@compiled
def _fill(
    blocks: Words,
    first: int,
    last: int,
    valid: Words,
    places: Whole,
    wanted: Words,
    masks: Words,
    thresholds: Whole,
    covers: Words,
) -> None:
    depth = blocks.shape[1]
    memory, where = new_memory(depth), np.empty(TOGETHER, dtype=np.int64)
    counts = np.empty(LANES, dtype=np.int64)
    for start in range(0, places.size, TOGETHER):
        taken = min(TOGETHER, places.size - start)
        for k in range(start, start + taken):
            for w in range(depth):
                masks[k, w] = ~blocks[places[k] // LANES, w, places[k] % LANES] & valid[w]
            nobody = np.int64(depth * LANES + 1)
            thresholds[k], lane = improve(memory.block, 0, masks[k], nobody, -1, counts)
            where[k - start] = memory.places[lane] if lane >= 0 else -1
        stop = start + taken
        improve_others(blocks, first, last, 0, 1, masks[start:stop], taken, thresholds[start:stop], where)
        for k in range(taken):
            remember(memory, blocks, where[k])
        _mark(blocks, first, masks[start:stop], thresholds[start:stop], wanted, covers[start:stop])


@compiled
def _mark(blocks: Words, first: int, masks: Words, thresholds: Whole, wanted: Words, covers: Words) -> None:
    """Write which wanted points of a class some neurons cover."""
    counts = np.empty(LANES, dtype=np.int64)
    for b in range(wanted.size):
        if wanted[b]:
            for k in range(thresholds.size):
                covers[k, b] = lanes_below(blocks, first + b, masks[k], thresholds[k], counts) & wanted[b]


def covered_rows(blocks: Words, first: int, masks: Words, thresholds: Whole, wanted: Words) -> Words:
    """Which wanted points of the class that begins at block `first` each neuron covers, (M, wanted.size)."""
    covers = np.zeros((len(masks), wanted.size), dtype=np.uint64)
    _mark(blocks, first, masks, thresholds, wanted, covers)
    return covers
