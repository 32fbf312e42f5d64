"""0/1 features of the first layer, 64 to a word, in blocks of 64 points.

`blocks[b, w, i]` holds features 64 w ... 64 w + 63 of point i of block b: the numbers of a block lie together, and one
vector instruction treats the same word of several points.

The features are the signs of W x + b in exact arithmetic (`first_layer_signs`), so the bits do not depend on the
machine, its number of threads, or how points are put together for the product. Pre-activations of a few points at a
time are turned into bits at once: they are never held for all points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.threads import spread
from solvers.bits.instructions import LANES
from solvers.bits.signs import FirstLayer, Words, pack_affine_signs, pack_signs, settle_signs
from solvers.errors import InputError

__all__ = [
    "Words",
    "block_rows",
    "block_words",
    "feature_blocks",
    "informative_order",
    "pack_bits",
    "unpack_words",
    "valid_bits",
]

# Pre-activations at a time: few enough for a second-level cache where the product is cheap, more where its inner
# dimension is long, and the weights are read again for every part.
CACHED_NUMBERS, LONG_NUMBERS, LONG = 2**18, 2**21, 64
# Up to this d, values are summed and turned into bits in registers, so only the points limit how many at a time.
FEW_INPUTS, FEW_INPUT_BLOCKS = 8, 64
# Points from which the order of features is guessed, and words below which no order can save anything.
SAMPLE, FEW_WORDS = 512, 4
# Beyond this W x + b could overflow.
LARGEST = 1e300


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
    points: FloatArray,
    rows: NDArray[np.int64],
    weights: FloatArray,
    biases: FloatArray,
    threads: int = 1,
    device: str = "cpu",
) -> Words:
    """Phi(x) = 1[W x + b > 0], of the exact sign, for some rows of the points; a few blocks at a time.

    Args:
        points: (N, d).
        rows: (64 B,) as from `block_rows`; a place without a row (-1) gets every feature.
        weights: W, (n, d).
        biases: b, (n,).
        threads: that share the blocks.
        device: torch device for the products, in float64 where it is not the processor.
    Returns:
        (B, ceil(n / 64), 64) words; unused bits are 0. The same for all threads and devices.
    Raises:
        InputError: the numbers are so large that W x + b overflows.
    """
    n, d = weights.shape
    depth = -(-n // LANES)
    blocks = np.empty((len(rows) // LANES, depth, LANES), dtype=np.uint64)
    layer = FirstLayer.of(weights, biases)
    product = _processor_product(layer, depth * LANES) if device == "cpu" else _device_product(layer, device)
    valid = valid_bits(n)
    step = max(1, (CACHED_NUMBERS if d < LONG else LONG_NUMBERS) // (depth * LANES * LANES))
    if d <= FEW_INPUTS:
        step = max(step, FEW_INPUT_BLOCKS)

    def fill(first: int) -> None:
        part = blocks[first : first + step]
        these = rows[first * LANES : first * LANES + len(part) * LANES]
        chosen = points[these]
        largest = np.maximum(chosen.max(axis=1), -chosen.min(axis=1))
        if not largest.max() * layer.weight_sum + layer.bias < LARGEST:
            raise InputError(f"the points reach {largest.max():g}: scale them down, W x + b overflows")
        slack = layer.slack(largest)
        if product(chosen, largest, slack, valid, part):
            settle_signs(slack, chosen, layer, part)
        empty = np.flatnonzero(these < 0)
        part[empty // LANES, :, empty % LANES] = valid

    spread(fill, range(0, len(blocks), step), threads)
    return blocks


# Writes the signs of rows of points, given ||x||_inf and the slack of every row; how many are still in doubt.
Product: TypeAlias = Callable[[FloatArray, FloatArray, FloatArray, Words, Words], int]


def _processor_product(layer: FirstLayer, padded: int) -> Product:
    """Products in float32 where their signs are mostly sure, else in float64."""
    n, d = layer.weights.shape
    # The biases are the last row, for points with a last coordinate 1.
    transposed = np.zeros((d + 1, padded), dtype=np.float32)
    with np.errstate(over="ignore"):  # `single_slack` takes float64 for numbers that large
        transposed[:d, :n], transposed[d, :n] = layer.weights.T, layer.biases

    def signs(chosen: FloatArray, largest: FloatArray, slack: FloatArray, valid: Words, part: Words) -> int:
        given = chosen, layer.weights, layer.biases, slack, valid, part
        doubt = layer.single_slack(chosen, largest)
        if doubt is None:
            values = np.zeros((len(chosen), padded))
            np.matmul(chosen, layer.weights.T, out=values[:, :n])
            values[:, :n] += layer.biases
            return pack_signs(values.reshape(-1), slack, *given)
        if d <= FEW_INPUTS:
            return pack_affine_signs(chosen.astype(np.float32), transposed[:d], transposed[d], doubt, *given)
        single = np.ones((len(chosen), d + 1), dtype=np.float32)
        single[:, :d] = chosen
        return pack_signs((single @ transposed).reshape(-1), doubt, *given)

    return signs


def _device_product(layer: FirstLayer, device: str) -> Product:
    """Products on a torch device, in float64: there float32 may stand for something shorter."""
    import torch

    weights, biases = (torch.tensor(array, device=device) for array in (layer.weights, layer.biases))

    def signs(chosen: FloatArray, largest: FloatArray, slack: FloatArray, valid: Words, part: Words) -> int:
        products = torch.addmm(biases, torch.tensor(chosen, device=device), weights.T).cpu().numpy()
        values = np.zeros((len(chosen), part.shape[1] * LANES))
        values[:, : len(layer.biases)] = products
        return pack_signs(values.reshape(-1), slack, chosen, layer.weights, layer.biases, slack, valid, part)

    return signs


def valid_bits(width: int) -> Words:
    """The words of a mask with all n features, (ceil(n / 64),)."""
    return pack_bits(np.ones((1, width), dtype=np.bool_))[0]


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
