"""Products of float64 matrices and exact vectors of any length, without rounding and without a loop over entries.

Both sides are cut in digits of 16 bits. A float64 matrix product of digits is exact, for every sum in it stays below
2^53. Used by the checker; the solvers have digits with errors of their own (`arithmetic.fixed_point`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rationals import DyadicArray

__all__ = ["exact_product"]

# Entries times columns up to which Python's own integers are faster.
FEW_PRODUCTS = 4000
# Columns of a matrix up to which sums of products of digits stay below 2^53.
MOST_TERMS = 2**20
# Bits of the whole numbers that a float64 matrix becomes when it is scaled; more would leave float64's range.
MOST_BITS = 900
_BASE = 2.0**16


def exact_product(matrix: FloatArray, vectors: DyadicArray) -> DyadicArray:
    """matrix (m, n) @ vectors (n, count)."""
    m, n = matrix.shape
    count = vectors.integers.shape[1]
    digits = None
    if m * n * count > FEW_PRODUCTS and n <= MOST_TERMS:
        digits = _matrix_digits(matrix)
    if digits is None:
        return DyadicArray.of(matrix) @ vectors
    pieces, shift = digits
    columns = _integer_digits(vectors.integers)
    levels = len(columns)
    flat = np.ascontiguousarray(columns.transpose(1, 0, 2)).reshape(n, levels * count)
    total = np.zeros((levels + len(pieces) + 4, m, count), dtype=np.int64)
    for place, piece in enumerate(pieces):
        part = (piece @ flat).astype(np.int64).reshape(m, levels, count)
        total[place : place + levels] += part.transpose(1, 0, 2)
    return DyadicArray(_integers(total), vectors.shift + shift)


def _matrix_digits(matrix: FloatArray) -> tuple[list[FloatArray], int] | None:
    """Digits of matrix 2^shift, lowest first, each with the sign of its entry; None where that is too long a number."""
    mantissas, exponents = np.frexp(matrix)
    used = matrix != 0
    if not used.any():
        return [np.zeros(matrix.shape)], 0
    # An entry is a whole number below 2^53 in size times 2^(exponent - 53).
    shift = max(0, 53 - int(exponents[used].min()))
    bits = int(exponents[used].max()) + shift
    if bits > MOST_BITS:
        return None
    left = np.ldexp(mantissas, exponents + shift)
    digits: list[FloatArray] = []
    for place in range(-(-bits // 16) - 1, -1, -1):
        worth = _BASE**place
        digit = np.trunc(left / worth)
        left = left - digit * worth
        digits.insert(0, digit)
    return digits, shift


def _integer_digits(integers: NDArray[np.object_]) -> FloatArray:
    """Digits (levels, n, count) of whole numbers, lowest first, of which only the last is ever negative."""
    values = integers.ravel().tolist()
    size = 2 * (max(max(value.bit_length() for value in values) // 16, 0) + 1)
    data = b"".join(value.to_bytes(size, "little", signed=True) for value in values)
    digits = np.frombuffer(data, dtype="<u2").reshape(*integers.shape, size // 2).astype(np.float64)
    top = digits[..., -1]
    top[top >= _BASE / 2] -= _BASE
    return np.moveaxis(digits, -1, 0)


def _integers(levels: NDArray[np.int64]) -> NDArray[np.object_]:
    """The whole numbers sum levels[k] 2^(16 k), the last four levels 0: room for what is carried."""
    carry = np.zeros(levels.shape[1:], dtype=np.int64)
    for k in range(len(levels)):
        carried = levels[k] + carry
        levels[k] = carried & 0xFFFF
        carry = carried >> 16
    # What is left to carry is 0 or -1: the sign, which the top bit already shows.
    size = 2 * len(levels)
    data = np.ascontiguousarray(np.moveaxis(levels, 0, -1)).astype("<u2").tobytes()
    found = [int.from_bytes(data[at : at + size], "little", signed=True) for at in range(0, len(data), size)]
    integers = np.empty(len(found), dtype=object)
    integers[:] = found
    return integers.reshape(levels.shape[1:])
