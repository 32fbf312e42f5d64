"""The second layer of the construction, one class against the rest, on packed features.

Sequentially the algorithm takes one candidate after the other. Here a few are looked at together, so that a tile of
the other classes' features is read once for all of them; they are then accepted in their drawn order, and one that an
earlier one has covered is passed over, so the network is the same. How many are looked at together follows how many of
the last ones were wasted.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from solvers.interpolation.bit_features import Words, popcount

__all__ = ["cover_class"]

# Points of the other classes in a tile: their words for all features stay in the second-level cache.
TILE = 1024
# Words after which a tile may be given up: when every partial count has reached the minimum so far.
STRIDE = 4
MOST_TOGETHER = 32
# Points that decided the last minima are asked first: they bring the minimum down at once.
MEMORY = 64


@numba.njit(cache=True, nogil=True)
def _add_four(a: Words, b: Words, c: Words, d: Words, mask: Words, counts: NDArray[np.int64]) -> np.int64:
    """Add the counts of four words to every point; the least count so far."""
    m0, m1, m2, m3 = mask[0], mask[1], mask[2], mask[3]
    least = np.int64(1 << 40)
    for i in range(a.size):
        total = (
            counts[i] + popcount(a[i] & m0) + popcount(b[i] & m1) + popcount(c[i] & m2) + popcount(d[i] & m3)
        )
        counts[i] = total
        least = min(least, total)
    return least


@numba.njit(cache=True, nogil=True)
def _add_one(a: Words, mask: np.uint64, counts: NDArray[np.int64]) -> np.int64:
    """The same for one word."""
    least = np.int64(1 << 40)
    for i in range(a.size):
        total = counts[i] + popcount(a[i] & mask)
        counts[i] = total
        least = min(least, total)
    return least


@numba.njit(cache=True, nogil=True)
def _least_in_tile(
    words: Words, start: int, stop: int, mask: Words, best: int, counts: NDArray[np.int64]
) -> tuple[int | np.int64, int]:
    """The least count in a tile if it is below `best`, and the point that has it; else (best, -1)."""
    size = stop - start
    depth = words.shape[0]
    counts[:size] = 0
    least = np.int64(0)
    w = 0
    while w < depth:
        if w + STRIDE <= depth:
            least = _add_four(
                words[w, start:stop],
                words[w + 1, start:stop],
                words[w + 2, start:stop],
                words[w + 3, start:stop],
                mask[w : w + 4],
                counts,
            )
            w += STRIDE
        else:
            least = _add_one(words[w, start:stop], mask[w], counts)
            w += 1
        if least >= best:
            return best, -1
    where = start
    for i in range(size):
        if counts[i] == least:
            where = start + i
            break
    return least, where


@numba.njit(cache=True, nogil=True)
def _count(words: Words, point: int, mask: Words) -> int:
    total = 0
    for w in range(words.shape[0]):
        total += popcount(words[w, point] & mask[w])
    return total


@numba.njit(cache=True, nogil=True)
def cover_class(
    words: Words, first: int, last: int, width: int, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Second-layer neurons that cover the class in columns first..last-1 and are silent on all other columns.

    Args:
        words: (W, N), the points sorted by class.
        first, last: the covered class "-".
        width: n, number of features.
        order: (last - first,), the candidates in their drawn order, as columns of `words`.
    Returns:
        The columns x* of the neurons in order of acceptance; their thresholds m; and how many counts were made, in
        candidate-against-all-points passes.
    Source: [DFG24], Algorithm 2, lines 3 to 12.
    """
    depth, count = words.shape
    size = last - first
    alive = np.ones(count, dtype=np.bool_)
    chosen = np.empty(size, dtype=np.int64)
    thresholds = np.empty(size, dtype=np.int64)
    masks = np.empty((MOST_TOGETHER, depth), dtype=np.uint64)
    batch = np.empty(MOST_TOGETHER, dtype=np.int64)
    least = np.empty(MOST_TOGETHER, dtype=np.int64)
    where = np.empty(MOST_TOGETHER, dtype=np.int64)
    counts = np.empty(TILE, dtype=np.int64)
    memory = np.full(MEMORY, -1, dtype=np.int64)
    remembered = 0
    full = np.uint64(0xFFFFFFFFFFFFFFFF)
    spare = depth * 64 - width
    accepted, position, passes, together = 0, 0, 0, 1
    while position < size:
        taken = 0
        while taken < together and position < size:
            candidate = order[position]
            position += 1
            if alive[candidate]:
                for w in range(depth):
                    masks[taken, w] = ~words[w, candidate]
                masks[taken, depth - 1] &= full >> np.uint64(spare)
                batch[taken] = candidate
                least[taken] = width + 1
                where[taken] = -1
                for k in range(MEMORY):
                    if memory[k] >= 0:
                        shared = _count(words, memory[k], masks[taken])
                        if shared < least[taken]:
                            least[taken], where[taken] = shared, memory[k]
                taken += 1
        passes += taken
        for side in range(2):
            begin, end = (0, first) if side == 0 else (last, count)
            for start in range(begin, end, TILE):
                stop = min(start + TILE, end)
                for k in range(taken):
                    if least[k] > 0:
                        found, place = _least_in_tile(words, start, stop, masks[k], least[k], counts)
                        if place >= 0:
                            least[k], where[k] = found, place
        wasted = 0
        for k in range(taken):
            if not alive[batch[k]]:
                wasted += 1
                continue
            alive[batch[k]] = False
            if where[k] >= 0:
                known = False
                for i in range(MEMORY):
                    known = known or memory[i] == where[k]
                if not known:
                    memory[remembered % MEMORY] = where[k]
                    remembered += 1
            if least[k] <= 0:
                continue
            chosen[accepted], thresholds[accepted] = batch[k], least[k]
            accepted += 1
            _drop_covered(words, first, last, masks[k], least[k], alive)
        if wasted * 4 > taken:
            together = max(1, together // 2)
        elif wasted * 8 <= taken:
            together = min(MOST_TOGETHER, together * 2)
    return chosen[:accepted].copy(), thresholds[:accepted].copy(), passes


@numba.njit(cache=True, nogil=True)
def _drop_covered(
    words: Words, first: int, last: int, mask: Words, threshold: int, alive: NDArray[np.bool_]
) -> None:
    """Take from the candidates every point whose count with the mask is below the threshold."""
    for i in range(first, last):
        if alive[i]:
            total = 0
            for w in range(words.shape[0]):
                total += popcount(words[w, i] & mask[w])
            if total < threshold:
                alive[i] = False
