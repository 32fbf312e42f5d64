"""Compiled: what a search writes: nodes into its arrays, leaves into a log (`search.proofs`)."""

from __future__ import annotations

from solvers.arithmetic.compiled import compiled
from solvers.lipschitz.bounds.slopes.kernels import RANK
from solvers.lipschitz.bounds.slopes.layers import NO_CODE
from solvers.lipschitz.search.proofs import BY_SLOPES

__all__ = ["copy_node", "copy_path", "enter_bounded", "enter_leaf", "forget"]


@compiled
def copy_node(signs, low, high, point, vectors, codes, to_signs, to_low, to_high, to_point, to_vectors, to_codes):  # type: ignore[no-untyped-def]
    """A node's arrays; loops in one place, since every assignment of a slice compiles for half a second."""
    depth, n = signs.shape
    for m in range(depth):
        for i in range(n):
            to_signs[m, i], to_low[m, i], to_high[m, i] = signs[m, i], low[m, i], high[m, i]
    for t in range(len(point)):
        to_point[t] = point[t]
    for i in range(len(vectors)):
        for t in range(RANK):
            to_vectors[i, t] = vectors[i, t]
    for t in range(len(codes)):
        to_codes[t] = codes[t]


@compiled
def copy_path(path, length, to):  # type: ignore[no-untyped-def]
    """The first `length` entries."""
    for s in range(length):
        to[s] = path[s]


@compiled
def enter_leaf(log, path, length, places, y, count, n, extra, loose):  # type: ignore[no-untyped-def]
    """Write a leaf: its path (and one more split, unless it is -1), its multipliers (and 1 for the split neuron)."""
    leaf, end, rows = log.counts[0], log.counts[1], log.counts[2]
    for s in range(length):
        log.paths[end + s] = path[s]
    end += length
    if extra >= 0:
        log.paths[end] = extra
        end += 1
    for i in range(count):
        if y[i] > 0.0:
            log.rows[rows] = places[i, 0] * n + places[i, 1]
            log.multipliers[rows] = y[i]
            rows += 1
    if extra >= 0:
        log.rows[rows] = extra // 2
        log.multipliers[rows] = 1.0
        rows += 1
    log.leaves[leaf, 0] = end
    log.leaves[leaf, 1] = rows
    log.leaves[leaf, 2] = loose
    log.counts[0], log.counts[1], log.counts[2] = leaf + 1, end, rows


@compiled
def enter_bounded(log, path, length, codes):  # type: ignore[no-untyped-def]
    """Write a leaf that is bounded: by the multipliers in `codes` where there are some."""
    leaf, end, rows = log.counts[0], log.counts[1], log.counts[2]
    for s in range(length):
        log.paths[end + s] = path[s]
    proved = len(codes) > 0 and codes[-1] != NO_CODE
    for i in range(len(codes) if proved else 0):
        if codes[i] != NO_CODE:
            log.rows[rows] = i
            log.multipliers[rows] = codes[i]
            rows += 1
    log.leaves[leaf, 0] = end + length
    log.leaves[leaf, 1] = rows
    log.leaves[leaf, 2] = BY_SLOPES if proved else 0
    log.counts[0], log.counts[1], log.counts[2] = leaf + 1, end + length, rows


@compiled
def forget(codes):  # type: ignore[no-untyped-def]
    """The bound is not of these multipliers any more."""
    if len(codes) > 0:
        codes[-1] = NO_CODE
