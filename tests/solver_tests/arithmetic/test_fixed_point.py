"""Digits of vectors and matrices against rational arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from solvers.arithmetic.fixed_point import DigitMatrix, FixedPoint, bits_for
from solvers.arithmetic.norms import FloatArray

SCALES = {"ordinary": 1.0, "large": 1e250, "small": 1e-250, "denormal": 1e-310}


def entry(vectors: FixedPoint, row: int, column: int) -> Fraction:
    """The number that the limbs stand for."""
    total = sum(
        int(limb[row, column]) << (vectors.bits * (len(vectors.limbs) - 1 - level))
        for level, limb in enumerate(vectors.limbs)
    )
    return total * Fraction(2) ** vectors.last_exponent


def product(matrix: FloatArray, vector: list[Fraction]) -> list[Fraction]:
    return [sum((Fraction(w) * v for w, v in zip(row, vector, strict=True)), Fraction(0)) for row in matrix.tolist()]


@pytest.mark.parametrize("terms", [1, 2, 3, 16, 17, 1024, 1025, 100_000])
def test_sums_of_products_of_digits_stay_exact(terms: int) -> None:
    assert terms * 4 ** (bits_for(terms) - 1) <= 2**53


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES.keys())
def test_digits_hold_all_of_a_float64(scale: float) -> None:
    values = np.random.default_rng(0).standard_normal((5, 3)) * scale
    vectors = FixedPoint.of(values, 22)
    assert not vectors.errors.any()
    assert all(entry(vectors, i, j) == Fraction(values[i, j]) for i in range(5) for j in range(3))


@pytest.mark.parametrize("most", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES.keys())
def test_products_are_within_their_errors(most: int, scale: float) -> None:
    rng = np.random.default_rng(most)
    matrices = [rng.standard_normal((7, 7)) * 10.0 ** rng.uniform(-6, 6, (7, 7)) for _ in range(3)]
    matrices[0] *= scale
    values = rng.standard_normal((7, 4))
    vectors = FixedPoint.of(values, 22)
    right = [[Fraction(v) for v in column] for column in values.T]
    for matrix in matrices:
        vectors = vectors.times(DigitMatrix.of(matrix, 22, most + 1), most)
        right = [product(matrix, column) for column in right]
        for j, column in enumerate(right):
            for i, exact in enumerate(column):
                off = abs(entry(vectors, i, j) - exact)
                assert off <= Fraction(vectors.errors[i, j]) * Fraction(2) ** vectors.last_exponent
    if most == 30:
        assert not vectors.errors.any()


def test_what_cancels_is_exactly_zero() -> None:
    values = np.array([[0.1], [0.1], [1e-30]])
    vectors = FixedPoint.of(values, 22).times(DigitMatrix.of(np.array([[1.0, -1.0, 0.0], [1.0, -1.0, 1.0]]), 22), 20)
    assert vectors.values()[0, 0] == 0
    assert vectors.errors[0, 0] == 0
    assert vectors.values()[1, 0] > 0
    assert entry(vectors, 1, 0) == Fraction(1e-30)


@pytest.mark.parametrize("size", [1e-40, 1e-3, 1.0, 3.0, 1e5, 1e60])
def test_one_is_one_beside_any_vector(size: float) -> None:
    vectors = FixedPoint.of(np.array([[size], [-size / 3]]), 22)
    longer = vectors.with_ones()
    assert entry(longer, 2, 0) == 1
    assert not longer.errors.any()
    assert entry(longer, 0, 0) == Fraction(size)
    assert entry(longer, 1, 0) == Fraction(-size / 3)


def test_one_beside_a_huge_vector_is_an_error_of_one_unit() -> None:
    longer = FixedPoint.of(np.array([[1e300]]), 22).with_ones()
    assert entry(longer, 1, 0) == 1 or longer.errors[1, 0] * Fraction(2) ** longer.last_exponent >= 1


def test_errors_in_beyond_the_range_of_float64_settle_nothing() -> None:
    vectors = FixedPoint(np.ones((1, 2, 1), dtype=np.int64), 0, 22, np.full((2, 1), np.inf))
    found = vectors.times(DigitMatrix.of(np.array([[0.0, 1.0], [0.0, 0.0]]), 22), 3)
    assert not (np.abs(found.values()) > found.errors).any()


def test_rows_that_come_in_parts_multiply_to_the_same() -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((11, 6)) * 10.0 ** rng.integers(-30, 3, (11, 6))
    matrix[4:8] = np.round(matrix[4:8])  # parts with fewer digits than others
    vectors = FixedPoint.of(rng.standard_normal((6, 2)), 22)
    vectors = replace(vectors, errors=rng.uniform(0.0, 3.0, vectors.errors.shape))
    for most in (2, 3, 5, 20):
        whole = vectors.times(DigitMatrix.of(matrix, 22, most + 2), most)
        largest = float(np.abs(matrix).max())
        parts = vectors.times_rows(
            (DigitMatrix.of(matrix[i : i + 4], 22, most + 2, largest) for i in range(0, 11, 4)), most
        )
        assert parts.exponent == whole.exponent
        assert np.array_equal(parts.limbs, whole.limbs)
        assert np.array_equal(parts.errors, whole.errors)
