"""0/1 features packed 64 to a word, and the counts of common ones that the construction is made of.

Words are kept word-major: `words[w, i]` holds features 64 w ... 64 w + 63 of point i. A count over many points then
runs down contiguous memory, eight points a vector instruction where the processor counts bits in vectors.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from solvers.norms import FloatArray

__all__ = ["Words", "feature_words", "masked_counts", "popcount", "threshold_bits", "unpack_words"]

Words: TypeAlias = NDArray[np.uint64]

# Rows of the data that are multiplied at a time: fixed, so that block sizes never depend on the machine.
ROWS = 4096


def _popcount(typing_context: Any, value: Any) -> Any:
    """Number of ones in a 64-bit word, as one machine instruction where there is one (for numba code)."""
    del typing_context, value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        function = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(function, arguments)

    return types.int64(types.uint64), generate


# Typed as Any: numba passes the typing context itself, which a type checker cannot know.
popcount: Any = intrinsic(_popcount)


def threshold_bits(points: FloatArray, weights: FloatArray, biases: FloatArray) -> NDArray[np.bool_]:
    """1[W x + b > 0] for points (N, d): shape (N, n)."""
    return (points @ weights.T + biases) > 0


def feature_words(points: FloatArray, weights: FloatArray, biases: FloatArray) -> Words:
    """Phi(x) = 1[W x + b > 0] of all points, packed; memory for a block of rows only beside the result.

    Args:
        points: (N, d).
        weights: W, (n, d).
        biases: b, (n,).
    Returns:
        (ceil(n / 64), N) words; unused bits are 0.
    """
    count, width = len(points), len(biases)
    words = np.zeros((-(-width // 64), count), dtype=np.uint64)
    for start in range(0, count, ROWS):
        bits = threshold_bits(points[start : start + ROWS], weights, biases)
        words[:, start : start + len(bits)] = pack_bits(bits).T
    return words


def pack_bits(bits: NDArray[np.bool_]) -> Words:
    """Rows of 0/1 values (M, n) as words (M, ceil(n / 64)), feature 0 in the lowest bit."""
    rows, width = bits.shape
    octets = np.zeros((rows, -(-width // 64) * 8), dtype=np.uint8)
    packed = np.packbits(bits, axis=1, bitorder="little")
    octets[:, : packed.shape[1]] = packed
    return octets.view("<u8").astype(np.uint64, copy=False)


def unpack_words(words: Words, width: int) -> NDArray[np.bool_]:
    """Rows of words (M, ceil(n / 64)) as 0/1 values (M, n)."""
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=width, bitorder="little").astype(bool)


@numba.njit(cache=True, nogil=True)
def masked_counts(words: Words, mask: Words, counts: NDArray[np.int64]) -> None:
    """counts[i] = number of features that point i shares with a mask.

    Args:
        words: (W, N), word-major.
        mask: (W,).
        counts: (N,), overwritten.
    """
    counts[:] = 0
    for w in range(words.shape[0]):
        common = mask[w]
        if common != 0:
            for i in range(words.shape[1]):
                counts[i] += popcount(words[w, i] & common)
