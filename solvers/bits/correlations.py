"""Least products over all translations: min over T of <u, T z> for 0/1 feature maps u and z, exact integers.

Two ways, the quicker one chosen by size (`faster_method`):

- **popcount**: u in all its H W positions, AND with z, count bits: n (H W)^2 / 64 word operations a pair;
- **fourier** (`fourier_correlations`): a transform each, a matrix product per frequency and a transform back, rounded
  to integers under a proved error: about H W (n + H + W) multiply-adds a pair, in batches of masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.bits.features import Words
from solvers.bits.fourier_correlations import CorrelationTransform, fourier_batch, fourier_is_exact
from solvers.bits.instructions import popcount
from solvers.bits.maps import PackedMaps
from solvers.errors import InputError

__all__ = [
    "Method",
    "RolledMask",
    "complement_maps",
    "faster_method",
    "least_products",
]

Method = Literal["popcount", "fourier"]

# Rolled masks of this many bytes stay in a core's second-level cache while the samples pass by.
TILE_BYTES = 2**20
KEPT_BYTES = 2**26
MOST = 2**62
# Positions whose products are counted together: a word of z is loaded once for four of u.
TOGETHER = 4
# Seconds a word of AND and popcount, and a multiply-add of the Fourier way's matrix products, on one core with AVX-512;
# tests/benchmarks/interpolation/test_convolutional_speed.py holds the choice between the two to what both really take.
SECONDS_PER_WORD = 1.1e-10
SECONDS_PER_MULTIPLY_ADD = 0.6e-10
# The Fourier way works in batches, and so on masks that a neuron before them makes idle; popcount stops sooner.
HEAD_START = 0.5
# The transforms' matrices grow with the square of the longer side: 270 MB here.
LARGEST_TRANSFORM = 4096


def faster_method(filters: int, height: int, width: int, masks: int) -> Method:
    """The way that should take less time for this many masks against many samples."""
    if not fourier_is_exact(filters, height, width) or max(height, width) > LARGEST_TRANSFORM:
        return "popcount"
    half, positions = width // 2 + 1, height * width
    transform = 2 * half * positions + 4 * half * height * height
    batch = min(masks, fourier_batch(filters, height, width))
    fourier = transform * (1 + filters / batch) + 4 * filters * half * height
    popcount = positions * positions * filters / 64
    quicker = fourier * SECONDS_PER_MULTIPLY_ADD < HEAD_START * popcount * SECONDS_PER_WORD
    return "fourier" if quicker else "popcount"


def complement_maps(maps: PackedMaps) -> PackedMaps:
    """The masks u = 1[z = 0] of feature maps z; bits beyond the last filter stay 0."""
    inverted = np.bitwise_not(maps.maps(slice(None)))
    if maps.filters % 8:
        inverted[..., -1] &= np.uint8((1 << maps.filters % 8) - 1)
    return PackedMaps.packed(inverted, maps.filters)


class RolledMask:
    """One mask u in all its positions, as tiles of words that fit a core's cache while the samples pass by.

    Args:
        masks: u_b, packed.
        row: which of them.
    """

    __slots__ = ("_kept", "_masks", "_row")

    def __init__(self, masks: PackedMaps, row: int) -> None:
        self._masks = masks
        self._row = row
        # All positions of a large mask would not fit in memory: those tiles are made anew each time.
        total = masks.positions * masks.words.shape[1] * 8
        self._kept = list(self._made()) if total <= KEPT_BYTES else None

    def tiles(self) -> Iterable[Words]:
        """Arrays of shape (positions, L), every position once."""
        return self._made() if self._kept is None else self._kept

    def _made(self) -> Iterator[Words]:
        masks = self._masks
        maps = np.tile(masks.maps(slice(self._row, self._row + 1))[0], (2, 2, 1))
        windows = np.lib.stride_tricks.sliding_window_view(maps, (masks.height, masks.width), axis=(0, 1))
        step = max(1, TILE_BYTES // (8 * masks.words.shape[1]) // TOGETHER) * TOGETHER
        for begin in range(0, masks.positions, step):
            places = np.arange(begin, min(begin + step, masks.positions))
            rolled = windows[places // masks.width, places % masks.width].transpose(0, 2, 3, 1)
            yield PackedMaps.packed(rolled, masks.filters).words

    def least_each(self, words: Words) -> NDArray[np.int64]:
        """min over T of <u, T z_s> for samples of shape (S, L)."""
        found = np.full(len(words), MOST, np.int64)
        for tile in self.tiles():
            _least_each(tile, words, found)
        return found

    def least(self, words: Words, rows: NDArray[np.int64]) -> int:
        """min over the rows of samples and over T of <u, T z>."""
        best = MOST
        for tile in self.tiles():
            best = int(_least_over_rows(tile, words, rows, best))
            if best == 0:
                break
        return best

    def below(self, words: Words, rows: NDArray[np.int64], limit: int) -> NDArray[np.bool_]:
        """For every row whether <u, T z> < limit for some T."""
        found = np.zeros(len(rows), np.bool_)
        for tile in self.tiles():
            _rows_below(tile, words, rows, limit, found)
        return found


def least_products(masks: PackedMaps, maps: PackedMaps, method: Method | None = None) -> NDArray[np.int64]:
    """min over T of <u_b, T z_s> for all pairs, shape (B, S).

    Args:
        masks: u_b, packed, shape (B, n, H, W).
        maps: z_s, packed, of the same n, H, W.
        method: the quicker one when left out; both give the same integers.
    Raises:
        InputError: "fourier" where its rounding error is not proved to be below 1/2.
    """
    size = masks.filters, masks.height, masks.width
    chosen = faster_method(*size, len(masks)) if method is None else method
    found = np.empty((len(masks), len(maps)), np.int64)
    if chosen == "popcount":
        for row in range(len(masks)):
            found[row] = RolledMask(masks, row).least_each(maps.words)
        return found
    if not fourier_is_exact(*size):
        raise InputError(f"rounding is not proved harmless at (n, H, W) = {size}: use the popcount method")
    step = fourier_batch(*size)
    for begin in range(0, len(masks), step):
        rows = np.arange(begin, min(begin + step, len(masks)))
        found[rows] = CorrelationTransform(masks.take(rows)).least(maps)
    return found


@compiled
def _least_in_tile(rolled: Words, begin: int, end: int, word: Words) -> int:
    """min of <u, T z> over the positions begin..end-1."""
    best = MOST
    t = begin
    while t + TOGETHER <= end:
        first, second, third, fourth = 0, 0, 0, 0
        for w in range(len(word)):
            here = word[w]
            first += popcount(rolled[t, w] & here)
            second += popcount(rolled[t + 1, w] & here)
            third += popcount(rolled[t + 2, w] & here)
            fourth += popcount(rolled[t + 3, w] & here)
        best = min(best, first, second, third, fourth)
        t += TOGETHER
    while t < end:
        total = 0
        for w in range(len(word)):
            total += popcount(rolled[t, w] & word[w])
        best = min(best, total)
        t += 1
    return best


@compiled
def _least_each(tile: Words, words: Words, found: NDArray[np.int64]) -> None:
    for s in range(len(words)):
        found[s] = min(found[s], _least_in_tile(tile, 0, len(tile), words[s]))


@compiled
def _least_over_rows(tile: Words, words: Words, rows: NDArray[np.int64], best: int) -> int:
    for r in rows:
        best = min(best, _least_in_tile(tile, 0, len(tile), words[r]))
        if best == 0:
            break
    return best


@compiled
def _rows_below(tile: Words, words: Words, rows: NDArray[np.int64], limit: int, found: NDArray[np.bool_]) -> None:
    for k in range(len(rows)):
        t = 0
        while t < len(tile) and not found[k]:
            found[k] = _least_in_tile(tile, t, min(t + TOGETHER, len(tile)), words[rows[k]]) < limit
            t += TOGETHER
