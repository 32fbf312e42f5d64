"""0/1 features of the first layer, 64 to a word, in blocks of 64 points.

`blocks[b, w, i]` holds features 64 w ... 64 w + 63 of point i of block b: the numbers of a block lie together, and one
vector instruction treats the same word of several points.

The features are the signs of W x + b in exact arithmetic. A matrix product in float64 decides nearly all of them,
whatever order it sums in; the few values within rounding of 0 are summed again without rounding. So the bits do not
depend on the machine, its number of threads, or how points are put together for the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from solvers.errors import InputError
from solvers.exact_arithmetic import DyadicArray
from solvers.interpolation.bit_instructions import LANES, popcount, positive_lanes
from solvers.norms import FloatArray

__all__ = [
    "Words",
    "block_rows",
    "block_words",
    "exact_sign",
    "feature_blocks",
    "informative_order",
    "pack_bits",
    "popcount",
    "sign_slack",
    "unpack_words",
    "valid_bits",
]

Words: TypeAlias = NDArray[np.uint64]

UNIT_ROUNDOFF = 2.0**-53
# Numbers in a block of pre-activations: few enough for a second-level cache where the product is cheap, more where its
# inner dimension is long and every call costs something.
CACHED_NUMBERS, LONG_NUMBERS, LONG = 2**17, 2**20, 64
# Up to this d, values are summed and turned into bits in registers; a matrix product would write them all out.
FEW_INPUTS = 8
# Points from which the order of features is guessed, and words below which no order can save anything.
SAMPLE, FEW_WORDS = 512, 4
# Beyond this W x + b could overflow.
LARGEST = 1e300
SIDE = 1.0 + 2.0**-40


def sign_slack(largest: Any, weight_sum: Any, bias: Any, dimension: int) -> Any:
    """How far a float64 value of w x + b, summed in any order, with or without fused products, lies from the true one.

    Args:
        largest: ||x||_inf. weight_sum: ||w||_1. bias: |b|. Numbers, arrays or tensors.
        dimension: d.
    Source: Higham 2002, section 3.1; factor 2 for the rounding of this bound, the constant for underflow.
    """
    return 2 * (dimension + 2) * UNIT_ROUNDOFF * (largest * weight_sum + bias) + 1e-300


def exact_sign(point: FloatArray, weight: FloatArray, bias: float) -> int:
    """Sign of <weight, point> + bias without rounding: -1, 0 or 1."""
    kept = np.flatnonzero(point)
    terms = np.append(point[kept], 1.0), np.append(weight[kept], bias)
    total = (DyadicArray.of(terms[0][None, :]) @ DyadicArray.of(terms[1][:, None])).integers[0, 0]
    return (total > 0) - (total < 0)


def block_rows(groups: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in blocks of 64, every group beginning a new block.

    Returns:
        The row at each place, -1 where a group's last block has nothing left, (64 B,); and the first block of each
        group followed by B.
    """
    starts = np.cumsum([0, *(-(-len(group) // LANES) for group in groups)])
    rows = np.full(int(starts[-1]) * LANES, -1, dtype=np.int64)
    for start, group in zip(starts.tolist(), groups, strict=False):
        rows[start * LANES : start * LANES + len(group)] = group
    return rows, starts


def feature_blocks(
    points: FloatArray, rows: NDArray[np.int64], weights: FloatArray, biases: FloatArray
) -> Words:
    """Phi(x) = 1[W x + b > 0], of the exact sign, for some rows of the points.

    Args:
        points: (N, d).
        rows: (64 B,) as from `block_rows`; a place without a row (-1) gets every feature.
        weights: W, (n, d).
        biases: b, (n,).
    Returns:
        (B, ceil(n / 64), 64) words; unused bits are 0.
    Raises:
        InputError: the numbers are so large that W x + b overflows.
    """
    n, d = weights.shape
    depth = -(-n // LANES)
    blocks = np.empty((len(rows) // LANES, depth, LANES), dtype=np.uint64)
    transposed = np.zeros((d, depth * LANES))
    transposed[:, :n] = weights.T
    padded = np.zeros(depth * LANES)
    padded[:n] = biases
    weight_sum, bias = float(np.abs(weights).sum(axis=1).max()), float(np.abs(biases).max())
    valid = valid_bits(n)
    step = max(1, (CACHED_NUMBERS if d < LONG else LONG_NUMBERS) // (depth * LANES * LANES))
    for first in range(0, len(blocks), step):
        part = blocks[first : first + step]
        these = rows[first * LANES : first * LANES + len(part) * LANES]
        chosen = points[these]
        largest = np.abs(chosen).max(axis=1)
        if not largest.max() * weight_sum + bias < LARGEST:
            raise InputError(f"the points reach {largest.max():g}: scale them down, W x + b overflows")
        # At the point 0 the value is the bias itself.
        slack = np.where(largest > 0, sign_slack(largest, weight_sum, bias, d), 0.0)
        if d <= FEW_INPUTS:
            unsure = _direct_signs(chosen, transposed, padded, slack, valid, part)
        else:
            values = chosen @ transposed
            values += padded
            unsure = _pack_signs(values.reshape(-1), slack, valid, part)
        if unsure:
            _settle(slack, chosen, weights, biases, part)
        empty = np.flatnonzero(these < 0)
        part[empty // LANES, :, empty % LANES] = valid
    return blocks


def valid_bits(width: int) -> Words:
    """The words of a mask with all n features, (ceil(n / 64),)."""
    return pack_bits(np.ones((1, width), dtype=np.bool_))[0]


@numba.njit(cache=True, nogil=True)
def _pack_signs(values: FloatArray, slack: FloatArray, valid: Words, blocks: Words) -> int:
    """Write the signs of rows of pre-activations; how many of them lie within the slack of 0."""
    depth = blocks.shape[1]
    unsure = 0
    for b in range(blocks.shape[0]):
        for i in range(LANES):
            row = b * LANES + i
            for w in range(depth):
                bits, near = _word_of_signs(values, (row * depth + w) * LANES, slack[row])
                blocks[b, w, i] = bits & valid[w]
                if near & valid[w]:
                    unsure += popcount(near & valid[w])
    return unsure


@numba.njit(cache=True, nogil=True)
def _direct_signs(
    points: FloatArray, transposed: FloatArray, biases: FloatArray, slack: FloatArray, valid: Words, blocks: Words
) -> int:
    """The same for points with few coordinates, without writing the pre-activations out."""
    values = np.empty(LANES)
    unsure = 0
    for b in range(blocks.shape[0]):
        for w in range(blocks.shape[1]):
            start, stop = w * LANES, (w + 1) * LANES
            offsets = biases[start:stop]
            for i in range(LANES):
                row = b * LANES + i
                # Slices of one row each: only these are known to be contiguous, which the inner loops need.
                coordinate, weight = points[row, 0], transposed[0, start:stop]
                for j in range(LANES):
                    values[j] = offsets[j] + coordinate * weight[j]
                for k in range(1, points.shape[1]):
                    coordinate, weight = points[row, k], transposed[k, start:stop]
                    for j in range(LANES):
                        values[j] += coordinate * weight[j]
                bits, near = _word_of_signs(values, 0, slack[row])
                blocks[b, w, i] = bits & valid[w]
                if near & valid[w]:
                    unsure += popcount(near & valid[w])
    return unsure


@numba.njit(cache=True, nogil=True)
def _word_of_signs(values: FloatArray, start: int, slack: float) -> tuple[np.uint64, np.uint64]:
    """Which of 64 values are above the slack, and which lie within it; no doubt is possible without slack."""
    above = positive_lanes(values, start, slack)
    if slack > 0:
        # Values of exactly -slack are in doubt too, so that side is taken a rounding lower.
        return above, above ^ positive_lanes(values, start, -slack * SIDE)
    return above, np.uint64(0)


def _settle(slack: FloatArray, points: FloatArray, weights: FloatArray, biases: FloatArray, blocks: Words) -> None:
    """Set the bits whose pre-activation is too near to 0, by sums without rounding.

    Any value found within its slack is within twice of it here, as both are nearer to the true one than half of it.
    """
    near = (np.abs(points @ weights.T + biases) <= 2.5 * slack[:, None]) & (slack > 0)[:, None]
    for row, feature in np.argwhere(near).tolist():
        bit = np.uint64(1) << np.uint64(feature % LANES)
        place = (row // LANES, feature // LANES, row % LANES)
        if exact_sign(points[row], weights[feature], float(biases[feature])) > 0:
            blocks[place] |= bit
        else:
            blocks[place] &= ~bit


def informative_order(points: FloatArray, weights: FloatArray, biases: FloatArray) -> NDArray[np.int64]:
    """Features in the order of how often they tell points apart, p (1 - p), guessed from a few points.

    Counts that may stop early then stop earlier. It decides how fast something is found, never what.
    """
    n = len(biases)
    if n <= FEW_WORDS * LANES or len(points) <= 8 * SAMPLE:
        return np.arange(n)
    sample = points[np.linspace(0, len(points) - 1, SAMPLE).astype(np.int64)]
    share = (sample @ weights.T + biases > 0).mean(axis=0)
    return np.argsort(-share * (1 - share), kind="stable")


def block_words(blocks: Words, places: NDArray[np.int64]) -> Words:
    """The words of some points, (M, depth)."""
    return np.ascontiguousarray(blocks[places // LANES, :, places % LANES])


def pack_bits(bits: NDArray[np.bool_]) -> Words:
    """Rows of 0/1 values (M, n) as words (M, ceil(n / 64)), feature 0 in the lowest bit."""
    rows, width = bits.shape
    octets = np.zeros((rows, -(-width // LANES) * 8), dtype=np.uint8)
    packed = np.packbits(bits, axis=1, bitorder="little")
    octets[:, : packed.shape[1]] = packed
    return octets.view("<u8").astype(np.uint64, copy=False)


def unpack_words(words: Words, width: int) -> NDArray[np.bool_]:
    """Rows of words (M, ceil(n / 64)) as 0/1 values (M, n)."""
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=width, bitorder="little").astype(bool)
