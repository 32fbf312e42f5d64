"""Batches of vectors with as many digits as asked for, multiplied by float64 matrices through BLAS, errors proved.

A vector is a sum of limbs: whole numbers below a power of two in size, each level worth so many bits less than the one
above. A float64 matrix is cut in such digits too. A product of two digits, summed over a row, stays below 2^53, so that
a float64 matrix product of digits is exact in whatever order it adds. What is dropped at the end is counted, for every
entry, in units of its last limb; where nothing was dropped the error is exactly 0, and so is a number that is 0.

Source: splitting for error-free products as in [OOR12], with whole digits in the place of floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON

__all__ = ["MOST_LIMBS", "DigitMatrix", "FixedPoint", "bits_for"]

# Limbs beyond which nothing is computed: a number in units of its last limb must stay in float64's range.
MOST_LIMBS = 36
# In the place of what is smaller and not 0, so that no bound underflows.
LEAST = 1e-100


def bits_for(terms: int) -> int:
    """Bits b of a limb so that `terms` products of two numbers of size 2^(b - 1) add up to 2^53 at most."""
    return (55 - math.ceil(math.log2(max(terms, 2)))) // 2


@dataclass(frozen=True, slots=True, eq=False)
class DigitMatrix:
    """A float64 matrix (m, n) as 2^exponent (digits[0] + digits[1] / 2^bits + digits[2] / 4^bits + ...).

    Attributes:
        digits: whole numbers of size at most 2^(bits - 1), as float64.
        sizes: (m, n), bounds on |entries| / 2^(exponent + bits).
        rest: bound on what the digits leave of an entry, over 2^(exponent + bits); 0 where they hold all of it.
    """

    digits: tuple[FloatArray, ...]
    exponent: int
    bits: int
    sizes: FloatArray
    rest: float

    @classmethod
    def of(cls, matrix: FloatArray, bits: int, most: int = MOST_LIMBS, largest: float | None = None) -> DigitMatrix:
        """Digits of finite entries, exact unless `most` of them do not reach.

        Args:
            largest: no less than the size of any entry; parts of one matrix share it.
        """
        largest = float(np.abs(matrix).max(initial=0.0)) if largest is None else largest
        exponent = math.frexp(largest)[1] - bits + 1
        left = _shifted(matrix, -exponent)
        vanished = bool((_shifted(left, exponent) != matrix).any())
        digits: list[FloatArray] = []
        while (not digits or left.any()) and len(digits) < most:
            digit = np.rint(left)
            digits.append(digit)
            left = (left - digit) * 2.0**bits
        sizes = np.maximum(_shifted(np.abs(matrix), -(exponent + bits)), LEAST) * (matrix != 0)
        rest = 2.0 ** max(-bits * len(digits), -300) if vanished or left.any() else 0.0
        return cls(tuple(digits), exponent, bits, sizes, rest)

    def columns(self, count: int) -> DigitMatrix:
        """The first columns."""
        return replace(self, digits=tuple(digit[:, :count] for digit in self.digits), sizes=self.sizes[:, :count])

    @property
    def transposed(self) -> DigitMatrix:
        return replace(self, digits=tuple(digit.T for digit in self.digits), sizes=self.sizes.T)


@dataclass(frozen=True, slots=True, eq=False)
class FixedPoint:
    """Vectors (n, count): 2^exponent (limbs[0] + limbs[1] / 2^bits + ...), each entry with an error bound.

    Attributes:
        limbs: (M, n, count), int64, of size at most 2^(bits - 1).
        errors: (n, count), in units of the last limb; 0 where an entry is exact.
    """

    limbs: NDArray[np.int64]
    exponent: int
    bits: int
    errors: FloatArray

    @classmethod
    def of(cls, values: FloatArray, bits: int) -> FixedPoint:
        """Finite float64 values (n, count), exact unless their sizes lie very far apart."""
        matrix = DigitMatrix.of(values, bits)
        limbs = np.array(matrix.digits).astype(np.int64)
        errors = np.full(values.shape, 1.0 if matrix.rest else 0.0)
        return cls(limbs, matrix.exponent, bits, errors)

    @property
    def last_exponent(self) -> int:
        """The last limb is worth 2 to this power."""
        return self.exponent - self.bits * (len(self.limbs) - 1)

    def keep(self, mask: NDArray[np.bool_]) -> FixedPoint:
        """The entries where `mask` holds; exact zeros elsewhere."""
        return replace(self, limbs=self.limbs * mask, errors=np.where(mask, self.errors, 0.0))

    def columns(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> FixedPoint:
        """Some of the vectors."""
        return replace(self, limbs=self.limbs[:, :, chosen], errors=self.errors[:, chosen])

    def with_ones(self) -> FixedPoint:
        """The vectors with one more entry, 1: what a bias is multiplied by."""
        level = -(-self.exponent // self.bits)
        above = max(0, -level)
        below = max(0, level + 1 - len(self.limbs))
        _, _, count = self.limbs.shape
        if below > MOST_LIMBS:  # 1 is far less than a unit
            one = np.zeros((len(self.limbs), 1, count), dtype=np.int64)
            return self._appended(self.limbs, one, self.exponent, self.errors, 1.0)
        # A lower unit counts errors in a larger number; that is a power of two.
        limbs = np.pad(self.limbs, ((above, below), (0, 0), (0, 0)))
        one = np.zeros((len(limbs), 1, count), dtype=np.int64)
        one[level + above] = 1 << (self.bits * level - self.exponent)
        errors = _scaled(self.errors, self.bits * below)
        return self._appended(limbs, one, self.exponent + self.bits * above, errors, 0.0)

    def _appended(
        self, limbs: NDArray[np.int64], one: NDArray[np.int64], exponent: int, errors: FloatArray, error: float
    ) -> FixedPoint:
        last = np.full((1, errors.shape[1]), error)
        return FixedPoint(np.concatenate([limbs, one], axis=1), exponent, self.bits, np.concatenate([errors, last]))

    def times(self, matrix: DigitMatrix, most: int) -> FixedPoint:
        """matrix @ vectors, cut to `most` limbs.

        Args:
            matrix: (m, n), with `bits` as here and bits <= bits_for(n).
        """
        return self.times_rows([matrix], most)

    def times_rows(self, parts: Iterable[DigitMatrix], most: int) -> FixedPoint:
        """The same for a matrix that comes some rows after the other, made when they are due and then let go.

        Args:
            parts: with the same number of columns and the same exponent.
        """
        levels, n, count = self.limbs.shape
        flat = self.limbs.transpose(1, 0, 2).reshape(n, levels * count).astype(np.float64)
        totals: list[NDArray[np.int64]] = []
        spread: list[FloatArray] = []
        below, rest = 0, 0.0
        for part in parts:
            m = len(part.sizes)
            total = np.zeros((levels + len(part.digits) - 1, m, count), dtype=np.int64)
            for s, digit in enumerate(part.digits):
                product = (digit @ flat).astype(np.int64).reshape(m, levels, count)
                total[s : s + levels] += product.transpose(1, 0, 2)
            totals.append(total)
            # |W| errors; its own rounding is below (n + 3) EPSILON of it.
            errors = np.zeros((m, count))
            if self.errors.any():
                with np.errstate(invalid="ignore", over="ignore"):
                    errors = (part.sizes @ self.errors) * (1 + (n + 3) * EPSILON)
                errors[np.isnan(errors)] = math.inf  # 0 times inf
            spread.append(errors)
            below, rest = part.exponent, max(rest, part.rest)
        longest = max(len(total) for total in totals)
        whole = np.concatenate([np.pad(total, ((0, longest - len(total)), (0, 0), (0, 0))) for total in totals], axis=1)
        limbs, exponent = _carried(whole, self.exponent + below, self.bits)
        kept, dropped = limbs[:most], limbs[most:]
        unit = exponent - self.bits * (len(kept) - 1)
        # In units of the new last limb.
        errors = np.concatenate(spread)
        shift = self.last_exponent + below + self.bits - unit
        errors = np.where(errors > 0, np.maximum(_scaled(errors, shift), LEAST), 0.0)
        if rest:
            # No entry is larger than 2^(exponent + bits).
            reach = _scaled(np.array(rest * n), self.exponent + below + 2 * self.bits - unit)
            errors = errors + max(float(reach), LEAST)
        if len(dropped):
            errors = errors + dropped.any(axis=0)  # what hangs below the last limb is little more than half of it
        return FixedPoint(kept, exponent, self.bits, errors * (1 + 4 * EPSILON))

    def values(self) -> FloatArray:
        """The entries in units of the last limb, errors apart, to three roundings; 0 only where all limbs are."""
        found = np.zeros(self.errors.shape)
        for limb in self.limbs[::-1]:
            found = found * 2.0**-self.bits + limb
        return np.asarray(found * 2.0 ** (self.bits * (len(self.limbs) - 1)))


def _shifted(values: FloatArray, shift: int) -> FloatArray:
    """values 2^shift, in two steps: one power of two may leave float64's range where their product does not."""
    half = shift // 2
    return values * 2.0**half * 2.0 ** (shift - half)


def _scaled(values: FloatArray, shift: int) -> FloatArray:
    """values 2^shift, inf where that is too large."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(values, max(min(shift, 5000), -5000)))


def _carried(total: NDArray[np.int64], exponent: int, bits: int) -> tuple[NDArray[np.int64], int]:
    """Levels of any whole numbers as limbs, without zeros in front and behind, and the exponent of the first."""
    half = 1 << (bits - 1)
    for level in range(len(total) - 1, 0, -1):
        carry = (total[level] + half) >> bits
        total[level] -= carry << bits
        total[level - 1] += carry
    above: list[NDArray[np.int64]] = []
    top = total[0]
    while (carry := (top + half) >> bits).any():
        top -= carry << bits
        above.insert(0, carry)
        top = carry
    exponent += bits * len(above)
    limbs = np.concatenate([np.array(above), total]) if above else total
    used = np.flatnonzero(limbs.any(axis=(1, 2)))
    if not used.size:
        return limbs[:1], exponent
    return limbs[used[0] : used[-1] + 1], exponent - bits * int(used[0])
