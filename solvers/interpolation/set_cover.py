"""Set cover on packed bits: a small choice of rows whose union is that of all rows, and how small one can be.

Greedy: the row that covers most of what is left, the first one of several. What a row covers anew only ever shrinks, so
the last count bounds it and few rows are counted again. Source: [Minoux78].
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.bits.features import Words
from solvers.bits.firing import Whole
from solvers.bits.instructions import popcount

__all__ = ["count_new", "greedy_cover", "needed_rows"]


@compiled
def count_new(row: Words, left: Words) -> int:
    """How many of the bits that are left a row covers."""
    total = 0
    for w in range(left.size):
        total += popcount(row[w] & left[w])
    return total


@compiled
def greedy_cover(rows: Words, left: Words) -> Whole:
    """Rows in greedy order until no row covers anything of what is left.

    Args:
        rows: (C, words).
        left: (words,), the bits to cover; what is covered is taken out.
    """
    heap = [(-count_new(rows[k], left), k) for k in range(rows.shape[0])]
    heapq.heapify(heap)
    chosen = np.empty(rows.shape[0], dtype=np.int64)
    taken = 0
    while heap:
        counted, k = heapq.heappop(heap)
        gain = count_new(rows[k], left)
        if gain == 0:
            continue
        if gain < -counted:
            heapq.heappush(heap, (-gain, k))
            continue
        chosen[taken] = k
        taken += 1
        for w in range(left.size):
            left[w] &= ~rows[k, w]
    return chosen[:taken].copy()


def needed_rows(rows: Words) -> NDArray[np.bool_]:
    """Which rows are left when those whose bits others cover are dropped, the last ones first."""
    needed = np.ones(len(rows), dtype=np.bool_)
    _drop_needless(rows, needed)
    return needed


@compiled
def _drop_needless(rows: Words, needed: NDArray[np.bool_]) -> None:
    counts = np.zeros(rows.shape[1] * 64, dtype=np.int64)
    for k in range(rows.shape[0]):
        _add(counts, rows[k], 1)
    for k in range(rows.shape[0] - 1, -1, -1):
        alone = False
        for w in range(rows.shape[1]):
            for i in range(64):
                if rows[k, w] >> np.uint64(i) & np.uint64(1) and counts[64 * w + i] == 1:
                    alone = True
                    break
            if alone:
                break
        if not alone:
            needed[k] = False
            _add(counts, rows[k], -1)


@compiled
def _add(counts: Whole, row: Words, number: int) -> None:
    for w in range(row.size):
        if row[w]:
            for i in range(64):
                if row[w] >> np.uint64(i) & np.uint64(1):
                    counts[64 * w + i] += number
