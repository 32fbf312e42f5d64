"""Signs of W x + b, exact whatever the arithmetic: how a value is judged, and settled where it is in doubt.

A sum in float32 decides nearly all signs; within its slack of 0 the sum is taken again in float64, and within the
slack of that one without rounding. So a sign never depends on the machine, its number of threads, the order of a sum or
how points are put together for a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rationals import DyadicArray
from solvers.arithmetic.rounding import SINGLE_ROUNDOFF, UNIT_ROUNDOFF
from solvers.bits.instructions import LANES, affine_sign_lanes, popcount, sign_lanes

__all__ = ["FirstLayer", "Words", "exact_sign", "pack_affine_signs", "pack_signs", "settle_signs", "sign_slack"]

# float32 is taken for numbers between: no overflow, and underflow is far below every slack.
SINGLE_LARGEST, SINGLE_TINY = 1e15, 1e-20
# In float32 a longer sum has hardly a sign that is sure.
SINGLE_TERMS = 2**20
Words: TypeAlias = NDArray[np.uint64]


def sign_slack(largest: Any, weight_sum: Any, bias: Any, dimension: int) -> Any:
    """How far a float64 value of w x + b, summed in any order, with or without fused products, lies from the true one.

    Args:
        largest: ||x||_inf. weight_sum: ||w||_1. bias: |b|. Numbers, arrays or tensors.
        dimension: d.
    Source: [Hig02, section 3.1]; factor 2 for the rounding of this bound, the constant for underflow.
    """
    return 2 * (dimension + 2) * UNIT_ROUNDOFF * (largest * weight_sum + bias) + 1e-300


def exact_sign(point: FloatArray, weight: FloatArray, bias: float) -> int:
    """Sign of <weight, point> + bias without rounding: -1, 0 or 1."""
    kept = np.flatnonzero(point)
    terms = np.append(point[kept], 1.0), np.append(weight[kept], bias)
    total = (DyadicArray.of(terms[0][None, :]) @ DyadicArray.of(terms[1][:, None])).integers[0, 0]
    return (total > 0) - (total < 0)


@dataclass(frozen=True, slots=True, eq=False)
class FirstLayer:
    """W and b with what bounds the rounding of W x + b, for rows of any points.

    Attributes:
        weights: W, (n, d). biases: b, (n,).
    """

    weights: FloatArray
    biases: FloatArray
    weight_sum: float
    weight_length: float
    weight_largest: float
    bias: float

    @classmethod
    def of(cls, weights: FloatArray, biases: FloatArray) -> FirstLayer:
        with np.errstate(over="ignore"):  # of weights so large the float64 way is taken
            lengths = np.sqrt(np.einsum("ij,ij->i", weights, weights))
        largest = max(float(weights.max()), -float(weights.min()))
        return cls(
            np.ascontiguousarray(weights),
            np.ascontiguousarray(biases),
            float(np.abs(weights).sum(axis=1).max()),
            float(lengths.max()) * (1 + 1e-9),
            largest,
            float(np.abs(biases).max()),
        )

    def slack(self, largest: FloatArray) -> FloatArray:
        """`sign_slack` for rows of maximum norm `largest`; 0 at the point 0, where the value is the bias itself."""
        return np.where(largest > 0, sign_slack(largest, self.weight_sum, self.bias, self.weights.shape[1]), 0.0)

    def single_slack(self, points: FloatArray, largest: FloatArray) -> NDArray[np.float32] | None:
        """The same for sums in float32 of numbers rounded to float32; None where float64 is the better choice.

        A term is rounded as often as there are terms that are not zero, and three times before: adding zero rounds
        nothing. The size of all terms together is at most ||x||_2 ||w||_2 and at most ||x||_inf ||w||_1.
        """
        reach = float(largest.max())
        if max(reach, self.weight_largest, self.bias) > SINGLE_LARGEST or points.shape[1] > SINGLE_TERMS:
            return None
        terms = np.count_nonzero(points, axis=1) + 3
        lengths = np.sqrt(np.einsum("ij,ij->i", points, points))
        size = np.minimum(lengths * (1 + 1e-9) * self.weight_length, largest * self.weight_sum)
        slack = 2 * terms * SINGLE_ROUNDOFF * (size + self.bias)
        slack += SINGLE_TINY * (1.0 + reach + self.weight_largest)
        # A value is about as large as ||x||_2 times a weight: beyond this share too many would be summed twice.
        if np.median(slack) * np.sqrt(points.shape[1]) > 0.05 * (np.median(lengths) * self.weight_length + self.bias):
            return None
        return np.nextafter(slack.astype(np.float32), np.float32(np.inf))


@compiled
def pack_signs(
    values: Any,
    doubt: Any,
    points: FloatArray,
    weights: FloatArray,
    biases: FloatArray,
    slack: FloatArray,
    valid: Words,
    blocks: Words,
) -> int:
    """Write the signs of rows of pre-activations as bits; how many of them only a sum without rounding can tell.

    Args:
        values: float32 or float64, (64 B * 64 depth,), row after row.
        doubt: how far each row's values may be from the true ones, (64 B,), of the same type.
        points: (64 B, d). weights: (n, d). biases: (n,). slack: of float64 sums, (64 B,).
        valid: (depth,). blocks: (B, depth, 64), written.
    """
    depth = blocks.shape[1]
    unsure = 0
    for b in range(blocks.shape[0]):
        for i in range(LANES):
            row = b * LANES + i
            for w in range(depth):
                bits, near = sign_lanes(values, (row * depth + w) * LANES, doubt[row])
                near &= valid[w]
                if near:
                    bits, open_bits = _again(bits, near, points[row], weights, biases, w, slack[row])
                    unsure += open_bits
                blocks[b, w, i] = bits & valid[w]
    return unsure


@compiled
def pack_affine_signs(
    single: Any,
    transposed: Any,
    offsets: Any,
    doubt: Any,
    points: FloatArray,
    weights: FloatArray,
    biases: FloatArray,
    slack: FloatArray,
    valid: Words,
    blocks: Words,
) -> int:
    """The same for points with few coordinates, whose float32 sums never leave the registers.

    Args:
        single: the points in float32. transposed: (d, 64 depth) float32. offsets: the biases, (64 depth,) float32.
    """
    unsure = 0
    for b in range(blocks.shape[0]):
        for w in range(blocks.shape[1]):
            for i in range(LANES):
                row = b * LANES + i
                bits, near = affine_sign_lanes(single, row, transposed, offsets, w * LANES, doubt[row])
                near &= valid[w]
                if near:
                    bits, open_bits = _again(bits, near, points[row], weights, biases, w, slack[row])
                    unsure += open_bits
                blocks[b, w, i] = bits & valid[w]
    return unsure


@compiled
def _again(
    bits: np.uint64,
    near: np.uint64,
    point: FloatArray,
    weights: FloatArray,
    biases: FloatArray,
    word: int,
    slack: float,
) -> tuple[np.uint64, int]:
    """The bits of a word with those in doubt from float64 sums, and how many are still in doubt."""
    unsure = 0
    while near:
        lowest = near & (~near + np.uint64(1))
        near ^= lowest
        j = word * LANES + popcount(lowest - np.uint64(1))
        value = _double_sum(point, weights[j]) + biases[j]
        if value > slack:
            bits |= lowest
        else:
            bits &= ~lowest
            # Without slack the value is the bias itself.
            if slack > 0 and value >= -slack:
                unsure += 1
    return bits, unsure


@compiled(fastmath={"reassoc", "contract"})
def _double_sum(point: FloatArray, weight: FloatArray) -> float:
    """<w, x> summed in the order that is quickest."""
    total = 0.0
    for k in range(point.size):
        total += point[k] * weight[k]
    return total


def settle_signs(slack: FloatArray, points: FloatArray, layer: FirstLayer, blocks: Words) -> None:
    """Set the bits whose pre-activation is too near to 0 for float64, by sums without rounding.

    Any value found within its slack is within twice of it here, as both are nearer to the true one than half of it.
    """
    values = points @ layer.weights.T + layer.biases
    near = (np.abs(values) <= 2.5 * slack[:, None]) & (slack > 0)[:, None]
    for row, feature in np.argwhere(near).tolist():
        bit = np.uint64(1) << np.uint64(feature % LANES)
        place = (row // LANES, feature // LANES, row % LANES)
        if exact_sign(points[row], layer.weights[feature], float(layer.biases[feature])) > 0:
            blocks[place] |= bit
        else:
            blocks[place] &= ~bit
