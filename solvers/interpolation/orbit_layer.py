"""The greedy second layer of the translation-invariant construction, from packed first-layer features.

Everything here depends on feature maps only up to translation, so it runs on one representative of every orbit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from solvers.bits.correlations import (
    Method,
    RolledMask,
    complement_maps,
    faster_method,
    least_products,
)
from solvers.bits.features import pack_bits, unpack_words
from solvers.bits.firing import Whole
from solvers.bits.instructions import LANES
from solvers.bits.maps import PackedMaps
from solvers.interpolation.least_cover import choose_rows

__all__ = ["SecondLayer", "build_second_layer", "choose_second_layer"]

FIRST_BATCH = 8
# Candidates whose products with all others are held at once.
TOGETHER = 64


@dataclass(frozen=True, slots=True, eq=False)
class SecondLayer:
    """Second-layer neurons of one class against the rest.

    Attributes:
        centres: rows x* whose mask u = 1[Phi(x*) = 0] a neuron holds, in the order of acceptance.
        thresholds: m of each neuron, at least 1.
        missed: rows of the class that no neuron covers, increasing.
        drawn: candidates that were tried, those with m = 0 included.
        at_least: no choice among all candidates has fewer neurons; 0 where nothing is known.
    """

    centres: Whole
    thresholds: Whole
    missed: Whole
    drawn: int
    at_least: int = 0


def build_second_layer(maps: PackedMaps, candidates: Whole, others: Whole, method: Method | None = None) -> SecondLayer:
    """Cover a class by balls around candidates that no sample of the other classes enters.

    For each candidate x* in order, unless a neuron already covers it: m = min over x+ and T of <u, Phi(T x+)>; if
    m > 0 the neuron is added and covers every x with min over T of <u, Phi(T x)> < m.

    Args:
        maps: Phi of one representative of every orbit.
        candidates: rows of the class in the order drawn, each once.
        others: rows x+ of the other classes, at least one.
        method: how products are counted; both ways give the same layer.
    Source: the translation-invariant variant of [DFG24, Algorithm 2] in [FinkeThesis].
    """
    chosen = method or faster_method(maps.filters, maps.height, maps.width, len(candidates))
    open_rows = dict.fromkeys(candidates.tolist())
    way = _by_fourier if chosen == "fourier" else _by_popcount
    centres, thresholds, drawn = [], [], 0
    for centre, threshold, covered in way(maps, candidates, others, open_rows):
        drawn += 1
        if threshold > 0:
            centres.append(centre)
            thresholds.append(threshold)
            for row in covered.tolist():
                del open_rows[row]
    missed = np.array(sorted(open_rows), dtype=np.int64)
    return SecondLayer(np.array(centres, np.int64), np.array(thresholds, np.int64), missed, drawn)


def choose_second_layer(
    maps: PackedMaps, candidates: Whole, others: Whole, least: bool, seconds: float, method: Method | None = None
) -> SecondLayer:
    """The same with neurons chosen from those of all candidates: greedily, or as few as a program finds.

    Args:
        candidates: in any order; ties go to the lower row.
        least: solve a program. seconds: for it.
    """
    chosen = method or faster_method(maps.filters, maps.height, maps.width, len(candidates))
    rows = np.sort(candidates)
    thresholds = np.empty(len(rows), np.int64)
    covers = np.empty((len(rows), -(-len(rows) // LANES)), np.uint64)
    for start in range(0, len(rows), TOGETHER):
        part = slice(start, start + TOGETHER)
        masks = complement_maps(maps.take(rows[part]))
        thresholds[part] = least_products(masks, maps.take(others), chosen).min(axis=1)
        covers[part] = pack_bits(least_products(masks, maps.take(rows), chosen) < thresholds[part, None])
    taken, at_least = choose_rows(covers, least, seconds)
    covered = unpack_words(covers[taken], len(rows)).any(axis=0)
    return SecondLayer(rows[taken], thresholds[taken], rows[~covered], len(rows), at_least)


_Trials = Iterator[tuple[int, int, Whole]]


def _by_popcount(maps: PackedMaps, candidates: Whole, others: Whole, open_rows: dict[int, None]) -> _Trials:
    """(x*, m, rows covered among `open_rows`) for every candidate that is still open when its turn comes."""
    for centre in candidates.tolist():
        if centre not in open_rows:
            continue
        mask = RolledMask(complement_maps(maps.take(np.array([centre]))), 0)
        threshold = mask.least(maps.words, others)
        covered = np.empty(0, np.int64)
        if threshold > 0:
            waiting = np.fromiter(open_rows, np.int64, len(open_rows))
            covered = waiting[mask.below(maps.words, waiting, threshold)]
        yield centre, threshold, covered


def _by_fourier(maps: PackedMaps, candidates: Whole, others: Whole, open_rows: dict[int, None]) -> _Trials:
    """The same in batches: products of several candidates at once, taken up in their drawn order.

    A batch grows while most of it is used and shrinks when its first neurons cover the rest; no answer depends on it.
    """
    opposite = maps.take(others)
    size = FIRST_BATCH
    pending = candidates.tolist()[::-1]
    while pending:
        batch: list[int] = []
        while pending and len(batch) < size:
            row = pending.pop()
            if row in open_rows:
                batch.append(row)
        if not batch:
            return
        masks = complement_maps(maps.take(np.array(batch)))
        thresholds = least_products(masks, opposite, "fourier").min(axis=1)
        useful = np.flatnonzero(thresholds)
        waiting = np.fromiter(open_rows, np.int64, len(open_rows))
        products = least_products(masks.take(useful), maps.take(waiting), "fourier")
        below = dict(zip(useful.tolist(), products < thresholds[useful, None], strict=True))
        used = 0
        for position, row in enumerate(batch):
            if row not in open_rows:
                continue
            used += 1
            covered = waiting[below[position]] if position in below else np.empty(0, np.int64)
            still = np.array([r for r in covered.tolist() if r in open_rows], dtype=np.int64)
            yield row, int(thresholds[position]), still
        size = 2 * size if 2 * used > len(batch) else max(FIRST_BATCH, size // 2)
