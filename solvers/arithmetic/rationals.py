"""Networks in exact arithmetic: every float64 is a whole number times a power of two.

Matrices of Python integers with one shared power of two add and multiply without rounding, which is all that a
linear region needs. Used by the checker only; the solvers work in float64 with rounding pushed outward.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray

__all__ = ["DyadicArray", "exact_dual", "norm_above", "norm_at_least", "norm_at_most", "power_above"]

# Digits for norms with irrational exponents; ln and exp of `decimal` are correctly rounded to this many.
_DIGITS = 80
# Covers the rounding of a few such operations, each relative to numbers below 10^6 in size.
_UPWARD = 1 + Fraction(1, 10**60)


@dataclass(frozen=True, slots=True, eq=False)
class DyadicArray:
    """The numbers `integers / 2**shift`, exactly.

    Attributes:
        integers: object array of Python integers.
        shift: a whole number >= 0.
    """

    integers: NDArray[np.object_]
    shift: int

    @classmethod
    def of(cls, values: FloatArray) -> DyadicArray:
        """Exact copy of finite float64 values of any shape."""
        array = np.asarray(values, dtype=np.float64)
        ratios = [value.as_integer_ratio() for value in array.ravel().tolist()]
        shift = max((denominator.bit_length() - 1 for _, denominator in ratios), default=0)
        integers = np.empty(len(ratios), dtype=object)
        for k, (numerator, denominator) in enumerate(ratios):
            integers[k] = numerator << (shift - denominator.bit_length() + 1)
        return cls(integers.reshape(array.shape), shift)

    def __matmul__(self, other: DyadicArray) -> DyadicArray:
        return DyadicArray(self.integers.dot(other.integers), self.shift + other.shift)

    def __add__(self, other: DyadicArray) -> DyadicArray:
        shift = max(self.shift, other.shift)
        left = self.integers * (1 << (shift - self.shift))
        right = other.integers * (1 << (shift - other.shift))
        return DyadicArray(left + right, shift)

    def keep(self, mask: NDArray[np.bool_]) -> DyadicArray:
        """The rows where `mask` holds; exact zeros elsewhere."""
        shape = (-1,) + (1,) * (self.integers.ndim - 1)
        return DyadicArray(self.integers * mask.astype(int).astype(object).reshape(shape), self.shift)

    def signs(self) -> NDArray[np.int64]:
        """-1, 0 or 1 for every entry."""
        flat = [(value > 0) - (value < 0) for value in self.integers.ravel().tolist()]
        return np.array(flat, dtype=np.int64).reshape(self.integers.shape)

    def fractions(self) -> list[Fraction]:
        """The entries in row-major order."""
        return [Fraction(int(value), 1 << self.shift) for value in self.integers.ravel().tolist()]


def exact_dual(p: float) -> float | Fraction:
    """The p' with 1/p + 1/p' = 1 for this very float p, 1 <= p <= inf; `norms.dual_exponent` rounds it."""
    if p == 1:
        return math.inf
    return 1.0 if math.isinf(p) else Fraction(p) / (Fraction(p) - 1)


def norm_at_least(vector: list[Fraction], exponent: float | Fraction, bound: float) -> bool:
    """Whether ||vector||_q >= bound is certain, q = `exponent`; rounding counts against the claim, and so does NaN."""
    return math.isfinite(bound) and _norm_interval(vector, exponent, Fraction(bound))[0]


def norm_at_most(vector: list[Fraction], exponent: float | Fraction, bound: float) -> bool:
    """Whether ||vector||_q <= bound is certain, q = `exponent`; rounding counts against the claim, and so does NaN."""
    if not math.isfinite(bound):
        return bound == math.inf
    return _norm_interval(vector, exponent, Fraction(bound))[1]


def norm_above(vector: Sequence[Fraction], exponent: float) -> Fraction:
    """A fraction that is no less than ||vector||_q, q = `exponent`, and no more than 1e-55 above it, relatively."""
    sizes = [abs(value) for value in vector]
    largest = max(sizes, default=Fraction(0))
    if largest == 0 or math.isinf(exponent):
        return largest
    if exponent == 1:
        return sum(sizes, Fraction(0))
    if exponent == 2:
        total = sum((size**2 for size in sizes), Fraction(0)) / largest**2
        return largest * Fraction(math.isqrt((total.numerator << 400) // total.denominator) + 1, 1 << 200)
    with _many_digits():
        q = decimal.Decimal(exponent)
        power_sum = sum((q * _decimal(size / largest).ln()).exp() for size in sizes if size)
        return largest * Fraction((decimal.Decimal(power_sum).ln() / q).exp()) * _UPWARD


def power_above(base: Fraction, exponent: Fraction) -> Fraction:
    """A fraction that is no less than base ** exponent, base >= 0, exponent >= 0, and hardly above it."""
    if base == 0 or exponent == 0 or exponent == 1:
        return base if exponent else Fraction(1)
    with _many_digits():
        return Fraction((_decimal(exponent) * _decimal(base).ln()).exp()) * _UPWARD


@contextmanager
def _many_digits() -> Iterator[None]:
    """Decimals of _DIGITS digits and any size."""
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        context.Emax, context.Emin = decimal.MAX_EMAX, decimal.MIN_EMIN
        yield


def _decimal(value: Fraction) -> decimal.Decimal:
    return decimal.Decimal(value.numerator) / decimal.Decimal(value.denominator)


def _norm_interval(vector: list[Fraction], exponent: float | Fraction, bound: Fraction) -> tuple[bool, bool]:
    """(norm >= bound for certain, norm <= bound for certain)."""
    sizes = [abs(value) for value in vector if value]
    largest = max(sizes, default=Fraction(0))
    if largest >= bound or exponent == math.inf:
        # A vector with one entry is as long as that one.
        return largest >= bound, largest <= bound and (len(sizes) <= 1 or exponent == math.inf)
    if exponent in (1, 2, 3, 4):
        total, power = sum(size ** int(exponent) for size in sizes), bound ** int(exponent)
        return total >= power, total <= power
    # sum (|v_k| / bound)^q against 1, every term below 1. Quotients and logarithms are right to one unit in the last of
    # _DIGITS digits, and q is below 10^16: a term that is not below 10^-(10^9) is off by a factor 1 +- 10^-62 at most.
    with _many_digits():
        q = _decimal(Fraction(exponent))
        total_power = decimal.Decimal(0)
        for size in sizes:
            total_power += (q * _decimal(size / bound).ln()).exp()
        slack = decimal.Decimal(10) ** (20 - _DIGITS)
        return total_power * (1 - slack) >= 1, total_power * (1 + slack) <= 1
