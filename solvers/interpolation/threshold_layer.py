"""The second layer of the construction, one class against the rest, on packed features.

Sequentially the algorithm takes one candidate after the other. Here a few are looked at together, so that a block of
the other classes' features is read once for all of them; they are then accepted in their drawn order, and one that an
earlier one has covered is passed over, so the network is the same. How many are looked at together follows how many of
the last ones were wasted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.threads import Crew
from solvers.bits.features import Words
from solvers.bits.firing import Whole
from solvers.bits.instructions import LANES, lanes_below, popcount
from solvers.bits.minima import Memory, improve, improve_others, new_memory, remember

__all__ = ["cover_class"]

MOST_TOGETHER = 32
# Words of features from which a pass over them is worth handing to several threads.
WORTH_SHARING = 2**19


class _Batch(NamedTuple):
    """Candidates that are looked at together.

    Attributes:
        places: of the candidates, (32,). masks: u, (32, depth).
        least: the minimum so far of <u, Phi(x)> over the other classes. where: a place that has it, -1 without one.
        accepted: 1 where a candidate becomes a neuron.
    """

    places: Whole
    masks: Words
    least: Whole
    where: Whole
    accepted: Whole


def cover_class(
    blocks: Words, first: int, last: int, valid: Words, order: Whole, threads: int = 1
) -> tuple[Whole, Whole, int]:
    """Second-layer neurons that cover the class in blocks first..last-1 and are silent on all other points.

    Args:
        blocks: (B, depth, 64), every class in blocks of its own; places without a point hold every feature.
        first, last: blocks of the covered class "-".
        valid: (depth,), the mask of all n features.
        order: the places of the class's points (block * 64 + lane) in their drawn order.
        threads: that share every pass over the points, where they are many.
    Returns:
        The places x* of the neurons in order of acceptance; their thresholds m; and how many candidates were tried, as
        in the sequential algorithm, those with m = 0 included. All are the same for any number of threads.
    Source: [DFG24, Algorithm 2, lines 3 to 12].
    """
    if threads > 1 and blocks.size > WORTH_SHARING:
        return _cover_shared(blocks, first, last, valid, order, threads)
    return _cover(blocks, first, last, valid, order)


@compiled
def _cover(blocks: Words, first: int, last: int, valid: Words, order: Whole) -> tuple[Whole, Whole, int]:
    """`cover_class` on one thread."""
    chosen, thresholds = np.empty(order.size, dtype=np.int64), np.empty(order.size, dtype=np.int64)
    batch, memory, alive = _begin(blocks.shape[1], first, last, order)
    accepted, position, tried, together = 0, 0, 0, 1
    while position < order.size:
        position, taken = _draw(blocks, first, valid, order, position, together, alive, batch, memory)
        improve_others(blocks, first, last, 0, 1, batch.masks, taken, batch.least, batch.where)
        accepted, wasted = _accept(blocks, batch, memory, taken, chosen, thresholds, accepted)
        tried += taken - wasted
        together = _next_size(together, taken, wasted)
        _drop(blocks, first, 0, 1, alive, batch, taken)
    return chosen[:accepted].copy(), thresholds[:accepted].copy(), tried


def _cover_shared(
    blocks: Words, first: int, last: int, valid: Words, order: Whole, threads: int
) -> tuple[Whole, Whole, int]:
    """`cover_class` with every pass dealt out to threads, block by block."""
    chosen, thresholds = np.empty(order.size, dtype=np.int64), np.empty(order.size, dtype=np.int64)
    batch, memory, alive = _begin(blocks.shape[1], first, last, order)
    accepted, position, tried, together = 0, 0, 0, 1

    def improve(k: int, taken: int, found: list[tuple[Whole, Whole]]) -> None:
        improve_others(blocks, first, last, k, threads, batch.masks, taken, *found[k])

    def drop(k: int, taken: int) -> None:
        _drop(blocks, first, k, threads, alive, batch, taken)

    with Crew(threads) as crew:
        while position < order.size:
            position, taken = _draw(blocks, first, valid, order, position, together, alive, batch, memory)
            found = [(batch.least.copy(), batch.where.copy()) for _ in range(threads)]
            crew.run(improve, taken, found)
            for least, where in found:
                better = least < batch.least
                batch.least[better], batch.where[better] = least[better], where[better]
            accepted, wasted = _accept(blocks, batch, memory, taken, chosen, thresholds, accepted)
            tried += taken - wasted
            together = _next_size(together, taken, wasted)
            crew.run(drop, taken)
    return chosen[:accepted].copy(), thresholds[:accepted].copy(), tried


@compiled
def _begin(depth: int, first: int, last: int, order: Whole) -> tuple[_Batch, Memory, Words]:
    """An empty batch, an empty memory, and the bits of the class's points that nothing has covered yet."""
    alive = np.zeros(last - first, dtype=np.uint64)
    for place in order:
        alive[place // LANES - first] |= np.uint64(1) << np.uint64(place % LANES)
    batch = _Batch(
        np.empty(MOST_TOGETHER, dtype=np.int64),
        np.empty((MOST_TOGETHER, depth), dtype=np.uint64),
        np.empty(MOST_TOGETHER, dtype=np.int64),
        np.empty(MOST_TOGETHER, dtype=np.int64),
        np.empty(MOST_TOGETHER, dtype=np.int64),
    )
    return batch, new_memory(depth), alive


@compiled
def _draw(
    blocks: Words,
    first: int,
    valid: Words,
    order: Whole,
    position: int,
    together: int,
    alive: Words,
    batch: _Batch,
    memory: Memory,
) -> tuple[int, int]:
    """Fill a batch with the next candidates that nothing covers; the position after them and how many they are."""
    depth = blocks.shape[1]
    counts = np.empty(LANES, dtype=np.int64)
    taken = 0
    while taken < together and position < order.size:
        place = order[position]
        position += 1
        if alive[place // LANES - first] >> np.uint64(place % LANES) & np.uint64(1):
            for w in range(depth):
                batch.masks[taken, w] = ~blocks[place // LANES, w, place % LANES] & valid[w]
            batch.places[taken] = place
            nobody = np.int64(depth * LANES + 1)
            least, lane = improve(memory.block, 0, batch.masks[taken], nobody, -1, counts)
            batch.least[taken], batch.where[taken] = least, memory.places[lane] if lane >= 0 else -1
            taken += 1
    return position, taken


@compiled
def _accept(
    blocks: Words,
    batch: _Batch,
    memory: Memory,
    taken: int,
    chosen: Whole,
    thresholds: Whole,
    accepted: int,
) -> tuple[int, int]:
    """Turn candidates into neurons in their drawn order, those with m = 0 and those just covered left out.

    Returns:
        How many neurons there are now, and how many candidates others had just covered.
    """
    depth = blocks.shape[1]
    wasted = 0
    for k in range(taken):
        batch.accepted[k] = 0
        covered = False
        for j in range(k):
            if batch.accepted[j]:
                # <u_j, Phi(x_k)>, for u_k is 1 - Phi(x_k).
                shared = 0
                for w in range(depth):
                    shared += popcount(batch.masks[j, w] & ~batch.masks[k, w])
                if shared < batch.least[j]:
                    covered = True
                    break
        if covered:
            wasted += 1
            continue
        remember(memory, blocks, batch.where[k])
        if batch.least[k] > 0:
            batch.accepted[k] = 1
            chosen[accepted], thresholds[accepted] = batch.places[k], batch.least[k]
            accepted += 1
    return accepted, wasted


@compiled
def _next_size(together: int, taken: int, wasted: int) -> int:
    """How many candidates to look at together next."""
    if wasted * 4 > taken:
        return max(1, together // 2)
    return min(MOST_TOGETHER, together * 2) if wasted * 8 <= taken else together


@compiled
def _drop(blocks: Words, first: int, start: int, step: int, alive: Words, batch: _Batch, taken: int) -> None:
    """Take the candidates and what they cover out of the class, for its blocks start, start + step, ..."""
    counts = np.empty(LANES, dtype=np.int64)
    for b in range(start, alive.size, step):
        for k in range(taken):
            if batch.places[k] // LANES - first == b:
                alive[b] &= ~(np.uint64(1) << np.uint64(batch.places[k] % LANES))
        for k in range(taken):
            if batch.accepted[k] and alive[b]:
                alive[b] &= ~lanes_below(blocks, first + b, batch.masks[k], batch.least[k], counts)
