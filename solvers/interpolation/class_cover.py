"""How a class is covered: centres in drawn order, greedily, or as few as a program finds; masks of points, clusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from solvers.bits.features import Words, block_words
from solvers.bits.firing import Whole
from solvers.bits.instructions import LANES
from solvers.bits.minima import new_memory
from solvers.errors import InputError
from solvers.interpolation.candidates import Neurons, covered_rows, point_neurons
from solvers.interpolation.clusters import clusters_of_each, clusters_to_cover
from solvers.interpolation.least_cover import least_cover
from solvers.interpolation.set_cover import greedy_cover, needed_rows
from solvers.interpolation.threshold_layer import cover_class

__all__ = ["Centres", "ClassTask", "Covered", "Deal", "Masks", "check_centres", "cover_task"]

Centres: TypeAlias = Literal["random", "greedy", "minimal"]
Masks: TypeAlias = Literal["point", "cluster"]

# Bytes of the coverage of the points that are looked at together; those of a larger class are taken in parts.
COVERAGE_BYTES = 2**26
LEAST_TOGETHER = 64
# Of clusters it hardly matters (measured) where they begin.
CLUSTERS_TOGETHER = 512
# Words of features of all points times points that clusters are grown from for a program; each reads them a few times.
GROWING_WORDS = 2**30


class ClassTask(NamedTuple):
    """One class to cover.

    Attributes:
        first, last, order: see `threshold_layer.cover_class`.
        centres, masks: how neurons are chosen, and what from.
        seconds: for the program of `minimal`.
    """

    first: int
    last: int
    order: Whole
    centres: Centres = "random"
    masks: Masks = "point"
    seconds: float = 60.0


class Covered(NamedTuple):
    """The second layer of one class.

    Attributes:
        places: of the points x* that the neurons were made from, (M,). masks: u, (M, depth). thresholds: m, (M,).
        tried: points that were looked at as centres.
        at_least: no choice among the candidates of `minimal` has fewer neurons; 0 where nothing is known.
    """

    places: Whole
    masks: Words
    thresholds: Whole
    tried: int
    at_least: int = 0


# Covers classes elsewhere: features, the mask of all of them and the classes to what `cover_task` gives for each.
Deal: TypeAlias = Callable[[Words, Words, Sequence[ClassTask]], Sequence[Covered]]


def check_centres(centres: Centres, masks: Masks = "point") -> None:
    """Raise InputError for unknown words, and for clusters around centres in random order."""
    for option, value, known in (
        ("centres", centres, ("random", "greedy", "minimal")),
        ("masks", masks, ("point", "cluster")),
    ):
        if value not in known:
            raise InputError(f"{option} must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
    if centres == "random" and masks == "cluster":
        raise InputError("clusters are grown around greedy or minimal centres: random ones take point masks")


def cover_task(blocks: Words, valid: Words, task: ClassTask, threads: int = 1) -> Covered:
    """Second-layer neurons that cover a class and are silent on all other points.

    `greedy` and `minimal` cover every point that the neuron of any point of the class covers.

    Args:
        blocks: (B, depth, 64), every class in blocks of its own. valid: (depth,), the mask of all features.
        threads: that share the work; the answer is the same for any number.
    """
    if task.centres == "random":
        chosen, thresholds, tried = cover_class(blocks, task.first, task.last, valid, task.order, threads)
        return Covered(chosen, ~block_words(blocks, chosen) & valid, thresholds, tried)
    greedy, tried = _greedily(blocks, valid, task, threads)
    if task.centres == "greedy":
        return Covered(greedy.places, greedy.masks, greedy.thresholds, tried)
    given = _candidates(blocks, valid, task, threads)
    both = Neurons(*(np.concatenate(pair) for pair in zip(greedy, given, strict=True)))
    chosen, at_least = least_cover(both.covers, np.arange(len(greedy.places)), task.seconds)
    return Covered(both.places[chosen], both.masks[chosen], both.thresholds[chosen], tried, at_least)


def _points(task: ClassTask) -> Words:
    """The points of a class as bits, (last - first,)."""
    return _bits(task.order - task.first * LANES, task.last - task.first)


def _bits(numbers: Whole, words: int) -> Words:
    marked = np.zeros(words * 64, dtype=np.bool_)
    marked[numbers] = True
    return np.packbits(marked, bitorder="little").view("<u8").astype(np.uint64)


def _together(task: ClassTask) -> int:
    """Points whose coverage is held at once."""
    most = max(LEAST_TOGETHER, COVERAGE_BYTES // (8 * (task.last - task.first)))
    return min(most, CLUSTERS_TOGETHER) if task.masks == "cluster" else most


def _greedily(blocks: Words, valid: Words, task: ClassTask, threads: int) -> tuple[Neurons, int]:
    """Neurons in greedy order without needless ones, and how many points were looked at.

    The points of a large class are looked at in parts, in their drawn order, those that nothing covers yet first.
    """
    left, everyone = _points(task), _points(task)
    together, untried, memory = _together(task), task.order, new_memory(blocks.shape[1])
    parts: list[tuple[Whole, Words, Whole]] = []
    tried = 0
    while untried.size and left.any():
        here = untried - task.first * LANES
        open_ones = (left[here // LANES] >> (here % LANES).astype(np.uint64) & np.uint64(1)).astype(np.bool_)
        pool = np.sort((untried[open_ones] if open_ones.any() else untried)[:together])
        untried = untried[~np.isin(untried, pool)]
        tried += pool.size
        found = point_neurons(blocks, task.first, task.last, valid, pool, left, threads)
        if task.masks == "cluster":
            seeds, masks, thresholds = clusters_to_cover(blocks, task.first, task.last, *found[1:], left, memory)
            parts.append((found.places[seeds], masks, thresholds))
        else:
            chosen = greedy_cover(found.covers, left)
            parts.append((found.places[chosen], found.masks[chosen], found.thresholds[chosen]))
    places, masks, thresholds = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    covers = covered_rows(blocks, task.first, masks, thresholds, everyone)
    needed = needed_rows(covers)
    return Neurons(places[needed], masks[needed], thresholds[needed], covers[needed]), tried


def _candidates(blocks: Words, valid: Words, task: ClassTask, threads: int) -> Neurons:
    """What a program may choose from: the neurons of points, and of clusters grown from each of them.

    Of a large class those of the points drawn first.
    """
    everyone = _points(task)
    most = max(LEAST_TOGETHER, COVERAGE_BYTES // (8 * everyone.size))
    pool = task.order[:most]
    found = point_neurons(blocks, task.first, task.last, valid, pool, everyone, threads)
    if task.masks == "point":
        return found
    few = slice(0, max(LEAST_TOGETHER, GROWING_WORDS // blocks.size))
    masks, thresholds = clusters_of_each(
        blocks, task.first, task.last, found.masks[few], found.thresholds[few], everyone, new_memory(blocks.shape[1])
    )
    covers = covered_rows(blocks, task.first, masks, thresholds, everyone)
    grown = Neurons(found.places[few], masks, thresholds, covers)
    return Neurons(*(np.concatenate(pair) for pair in zip(grown, found, strict=True)))
