"""The least number of features that a mask shares with the points of other classes, m = min <u, Phi(x+)>, by blocks.

A minimum begins with the points that decided the last ones, gives a block up as soon as none of its points can be less,
and ends at 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.bits.features import Words
from solvers.bits.firing import Whole
from solvers.bits.instructions import LANES, lanes_below

__all__ = ["Memory", "improve", "improve_others", "new_memory", "remember"]


class Memory(NamedTuple):
    """The points that decided the last minima, as a block: they bring the next minimum down at once.

    Attributes:
        block: (1, depth, 64), free places hold every feature. places: of the points, -1 where free.
        used: how many were ever put in, (1,).
    """

    block: Words
    places: Whole
    used: Whole


@compiled
def new_memory(depth: int) -> Memory:
    """A memory of no points."""
    return Memory(
        np.full((1, depth, LANES), ~np.uint64(0)), np.full(LANES, -1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    )


@compiled
def remember(memory: Memory, blocks: Words, place: int) -> None:
    """Put a point in, in the place of the oldest where all are taken."""
    if not (memory.places == place).any():
        slot = memory.used[0] % LANES
        memory.places[slot] = place
        memory.used[0] += 1
        for w in range(blocks.shape[1]):
            memory.block[0, w, slot] = blocks[place // LANES, w, place % LANES]


@compiled
def improve_others(
    blocks: Words, first: int, last: int, start: int, step: int, masks: Words, taken: int, least: Whole, where: Whole
) -> None:
    """Bring the minima of masks[:taken] down by the blocks start, start + step, ... outside of first..last-1."""
    counts = np.empty(LANES, dtype=np.int64)
    for b in range(start, blocks.shape[0], step):
        if first <= b < last:
            continue
        for k in range(taken):
            if least[k] > 0:
                least[k], where[k] = improve(blocks, b, masks[k], least[k], where[k], counts)


@compiled
def improve(
    blocks: Words, block: int, mask: Words, best: int | np.int64, place: int, counts: Whole
) -> tuple[int | np.int64, int]:
    """The least count so far and the place that has it, after one more block."""
    if lanes_below(blocks, block, mask, best, counts):
        for i in range(LANES):
            if counts[i] < best:
                best, place = counts[i], block * LANES + i
    return best, place
