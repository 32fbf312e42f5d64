"""Neurons of clusters: fewer are needed by far than of single points, with smaller thresholds m.

A cluster of points of one class gives the mask u = 1[no point of it has the feature]. Then <u, Phi(x)> = 0 for its
points, so the neuron (u, m), m = min <u, Phi(x+)>, covers it wherever m > 0: the first-layer neurons in u are silent
on a convex polytope that holds the cluster. It begins as a point's neuron and is grown for as long as it covers more.
"""

from __future__ import annotations

import heapq

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.bits.features import Words
from solvers.bits.firing import Whole
from solvers.bits.instructions import LANES, lanes_below, popcount
from solvers.bits.minima import Memory, improve, remember
from solvers.interpolation.set_cover import count_new

__all__ = ["clusters_of_each", "clusters_to_cover"]

# Points next to a cluster that are tried in turn before it counts as grown.
MOST_FAILURES = 3


@compiled
def clusters_to_cover(
    blocks: Words, first: int, last: int, masks: Words, thresholds: Whole, covers: Words, left: Words, memory: Memory
) -> tuple[Whole, Words, Whole]:
    """Neurons in greedy order, each grown into a cluster over what is left, until none covers anything of it.

    Args:
        blocks: (B, depth, 64). first, last: blocks of the class.
        masks, thresholds, covers: of the neurons to begin with, (C, depth), (C,) and (C, last - first).
        left: (last - first,), the points to cover; those covered are taken out.
        memory: of the points that decided minima before; kept up to date.
    Returns:
        Which neurons the clusters began with, their masks (M, depth) and thresholds (M,).
    """
    heap = [(-count_new(covers[k], left), k) for k in range(covers.shape[0])]
    heapq.heapify(heap)
    seeds = np.empty(covers.shape[0], dtype=np.int64)
    grown, least = np.empty_like(masks), np.empty_like(thresholds)
    taken = 0
    while heap:
        counted, k = heapq.heappop(heap)
        gain = count_new(covers[k], left)
        if gain == 0:
            continue
        if gain < -counted:
            heapq.heappush(heap, (-gain, k))
            continue
        mask, threshold, covered = _grow(blocks, first, last, masks[k], thresholds[k], left, memory)
        seeds[taken], grown[taken], least[taken] = k, mask, threshold
        taken += 1
        for w in range(left.size):
            left[w] &= ~covered[w]
    return seeds[:taken].copy(), grown[:taken].copy(), least[:taken].copy()


@compiled
def clusters_of_each(
    blocks: Words, first: int, last: int, masks: Words, thresholds: Whole, everyone: Words, memory: Memory
) -> tuple[Words, Whole]:
    """Masks and thresholds of the clusters grown from every neuron, over all points of the class."""
    grown, least = np.empty_like(masks), np.empty_like(thresholds)
    for k in range(thresholds.size):
        grown[k], least[k], _ = _grow(blocks, first, last, masks[k], thresholds[k], everyone, memory)
    return grown, least


@compiled
def _grow(
    blocks: Words, first: int, last: int, mask: Words, threshold: int, wanted: Words, memory: Memory
) -> tuple[Words, int, Words]:
    """The neuron of a cluster that begins with what a neuron covers and is grown for as long as it covers more.

    The cluster is all that the neuron covers; then the nearest point outside it is tried, the next one where that does
    not cover more, until three in a row did not.

    Args:
        mask, threshold: of the neuron to begin with.
        wanted: the points of the class that count, (last - first,).
        memory: of the points that decided minima before; kept up to date.
    Returns:
        Its mask, its threshold, and the wanted points that it covers.
    """
    depth, size = blocks.shape[1], last - first
    counts, products = np.empty(LANES, dtype=np.int64), np.empty(size * LANES, dtype=np.int64)
    mask, covers = mask.copy(), np.zeros(size, dtype=np.uint64)
    for b in range(size):
        if wanted[b]:
            covers[b] = lanes_below(blocks, first + b, mask, threshold, counts) & wanted[b]
    trial, trial_covers, tried = np.empty_like(mask), np.empty_like(covers), np.empty_like(covers)
    failures, begun = 0, False
    while failures < MOST_FAILURES:
        if not begun:
            tight = _shared_by(blocks, first, mask, covers)
            _count(blocks, first, mask, wanted, products)
            tried[:] = covers
            begun = True
            trial[:] = tight
        else:
            nearest = _nearest(products, wanted, tried)
            if nearest < 0:
                break
            tried[nearest // LANES] |= np.uint64(1) << np.uint64(nearest % LANES)
            for w in range(depth):
                trial[w] = tight[w] & ~blocks[first + nearest // LANES, w, nearest % LANES]
            failures += 1
        least = _silent(blocks, first, last, trial, wanted, _ones(covers), memory, trial_covers)
        if least > 0:
            mask[:], covers[:], threshold = trial, trial_covers, least
            failures, begun = 0, False
    return mask, threshold, covers


@compiled
def _ones(words: Words) -> int:
    total = 0
    for word in words:
        total += popcount(word)
    return total


@compiled
def _shared_by(blocks: Words, first: int, mask: Words, cluster: Words) -> Words:
    """The features of a mask that no point of a cluster has."""
    found = mask.copy()
    for b in range(cluster.size):
        left = cluster[b]
        for i in range(LANES):
            if left >> np.uint64(i) & np.uint64(1):
                for w in range(found.size):
                    found[w] &= ~blocks[first + b, w, i]
    return found


@compiled
def _count(blocks: Words, first: int, mask: Words, wanted: Words, products: Whole) -> None:
    """Write <u, Phi(x)> of every point in a block with wanted ones."""
    counts, nobody = np.empty(LANES, dtype=np.int64), mask.size * LANES + 1
    for b in range(wanted.size):
        if wanted[b]:
            lanes_below(blocks, first + b, mask, nobody, counts)
            products[b * LANES : (b + 1) * LANES] = counts


@compiled
def _nearest(products: Whole, wanted: Words, tried: Words) -> int:
    """The first of the wanted points with the least product that was not tried; -1 without one."""
    best, place = np.int64(2**62), -1
    for b in range(wanted.size):
        left = wanted[b] & ~tried[b]
        if left:
            for i in range(LANES):
                if left >> np.uint64(i) & np.uint64(1) and products[b * LANES + i] < best:
                    best, place = products[b * LANES + i], b * LANES + i
    return place


@compiled
def _silent(
    blocks: Words, first: int, last: int, mask: Words, wanted: Words, gain: int, memory: Memory, covers: Words
) -> int:
    """The threshold m of a mask, and what it covers, where that is more than `gain` wanted points; else 0."""
    counts = np.empty(LANES, dtype=np.int64)
    nobody = mask.size * LANES + 1
    having = np.zeros(nobody, dtype=np.int64)
    for b in range(wanted.size):
        if wanted[b]:
            lanes_below(blocks, first + b, mask, nobody, counts)
            for i in range(LANES):
                if wanted[b] >> np.uint64(i) & np.uint64(1):
                    having[counts[i]] += 1
    # With more than `gain` points below it m is above the product of one more.
    needed, points = 0, having[0]
    while points <= gain:
        needed += 1
        if needed == nobody:
            return 0
        points += having[needed]
    least, lane = improve(memory.block, 0, mask, np.int64(nobody), -1, counts)
    if least <= needed:
        return 0
    for b in range(blocks.shape[0]):
        if not first <= b < last:
            least, lane = improve(blocks, b, mask, least, lane, counts)
            if least <= needed:
                remember(memory, blocks, lane)
                return 0
    for b in range(wanted.size):
        covers[b] = 0
        if wanted[b]:
            covers[b] = lanes_below(blocks, first + b, mask, least, counts) & wanted[b]
    return least
