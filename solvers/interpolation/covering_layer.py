"""The second layer of the construction, one class against the rest, on packed features.

Sequentially the algorithm takes one candidate after the other. Here a few are looked at together, so that a block of
the other classes' features is read once for all of them; they are then accepted in their drawn order, and one that an
earlier one has covered is passed over, so the network is the same. How many are looked at together follows how many of
the last ones were wasted.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from solvers.interpolation.bit_features import Words
from solvers.interpolation.bit_instructions import LANES, lanes_below

__all__ = ["count_firing", "cover_class"]

MOST_TOGETHER = 32


@numba.njit(cache=True, nogil=True)
def cover_class(
    blocks: Words, first: int, last: int, valid: Words, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Second-layer neurons that cover the class in blocks first..last-1 and are silent on all other points.

    Args:
        blocks: (B, depth, 64), every class in blocks of its own; places without a point hold every feature.
        first, last: blocks of the covered class "-".
        valid: (depth,), the mask of all n features.
        order: the places of the class's points (block * 64 + lane) in their drawn order.
    Returns:
        The places x* of the neurons in order of acceptance; their thresholds m; and how many candidates were counted
        against all other points.
    Source: [DFG24], Algorithm 2, lines 3 to 12.
    """
    depth = blocks.shape[1]
    size = order.size
    nobody = np.int64(depth * LANES + 1)
    alive = np.zeros(last - first, dtype=np.uint64)
    for place in order:
        alive[place // LANES - first] |= np.uint64(1) << np.uint64(place % LANES)
    chosen = np.empty(size, dtype=np.int64)
    thresholds = np.empty(size, dtype=np.int64)
    masks = np.empty((MOST_TOGETHER, depth), dtype=np.uint64)
    batch = np.empty(MOST_TOGETHER, dtype=np.int64)
    least = np.empty(MOST_TOGETHER, dtype=np.int64)
    where = np.empty(MOST_TOGETHER, dtype=np.int64)
    counts = np.empty(LANES, dtype=np.int64)
    # The points that decided the last minima are asked first: they bring the next minimum down at once.
    memory = np.full((1, depth, LANES), ~np.uint64(0))
    remembered = np.full(LANES, -1, dtype=np.int64)
    forgotten = 0
    accepted, position, passes, together = 0, 0, 0, 1
    while position < size:
        taken = 0
        while taken < together and position < size:
            place = order[position]
            position += 1
            if alive[place // LANES - first] >> np.uint64(place % LANES) & np.uint64(1):
                for w in range(depth):
                    masks[taken, w] = ~blocks[place // LANES, w, place % LANES] & valid[w]
                batch[taken] = place
                least[taken], where[taken] = _improve(memory, 0, masks[taken], nobody, -1, counts)
                if where[taken] >= 0:
                    where[taken] = remembered[where[taken]]
                taken += 1
        passes += taken
        for b in range(blocks.shape[0]):
            if first <= b < last:
                continue
            for k in range(taken):
                if least[k] > 0:
                    least[k], where[k] = _improve(blocks, b, masks[k], least[k], where[k], counts)
        wasted = 0
        for k in range(taken):
            block, bit = batch[k] // LANES - first, np.uint64(1) << np.uint64(batch[k] % LANES)
            if not alive[block] & bit:
                wasted += 1
                continue
            alive[block] &= ~bit
            if not (remembered == where[k]).any():
                slot = forgotten % LANES
                remembered[slot] = where[k]
                forgotten += 1
                for w in range(depth):
                    memory[0, w, slot] = blocks[where[k] // LANES, w, where[k] % LANES]
            if least[k] <= 0:
                continue
            chosen[accepted], thresholds[accepted] = batch[k], least[k]
            accepted += 1
            for b in range(last - first):
                if alive[b]:
                    alive[b] &= ~lanes_below(blocks, first + b, masks[k], least[k], counts)
        if wasted * 4 > taken:
            together = max(1, together // 2)
        elif wasted * 8 <= taken:
            together = min(MOST_TOGETHER, together * 2)
    return chosen[:accepted].copy(), thresholds[:accepted].copy(), passes


@numba.njit(cache=True, nogil=True)
def _improve(
    blocks: Words, block: int, mask: Words, best: int | np.int64, place: int, counts: NDArray[np.int64]
) -> tuple[int | np.int64, int]:
    """The least count so far and the place that has it, after one more block."""
    if lanes_below(blocks, block, mask, best, counts):
        for i in range(LANES):
            if counts[i] < best:
                best, place = counts[i], block * LANES + i
    return best, place


@numba.njit(cache=True, nogil=True)
def count_firing(
    blocks: Words, masks: Words, thresholds: NDArray[np.int64], owners: NDArray[np.int64], firing: NDArray[np.int64]
) -> None:
    """Add for every point how many second-layer neurons of each detector fire, <u, Phi(x)> < m.

    Args:
        blocks: (B, depth, 64). masks: u, (M, depth). thresholds: m, (M,). owners: detector of each neuron, (M,).
        firing: (B, detectors, 64), added to.
    """
    counts = np.empty(LANES, dtype=np.int64)
    for b in range(blocks.shape[0]):
        for k in range(masks.shape[0]):
            lanes = lanes_below(blocks, b, masks[k], thresholds[k], counts)
            if lanes:
                for i in range(LANES):
                    firing[b, owners[k], i] += np.int64(lanes >> np.uint64(i) & np.uint64(1))
