"""Exact products of float64 matrices by digits against Python's own integers."""

from __future__ import annotations

import numpy as np
import pytest

from solvers.arithmetic.exact_products import exact_product
from solvers.arithmetic.rationals import DyadicArray


@pytest.mark.parametrize("spread", [0.0, 3.0, 60.0, 200.0])
@pytest.mark.parametrize("shape", [(90, 80), (1, 5000), (5000, 1), (80, 90)])
def test_products_are_those_of_integers(shape: tuple[int, int], spread: float) -> None:
    rng = np.random.default_rng(int(spread) + sum(shape))
    _m, n = shape
    matrix = rng.standard_normal(shape) * 10.0 ** rng.uniform(-spread, spread, shape) * (rng.random(shape) < 0.8)
    vectors = DyadicArray.of(rng.standard_normal((n, 2)) * 10.0 ** rng.uniform(-8, 8, (n, 2)))
    for _ in range(2):
        found = exact_product(matrix, vectors)
        assert found.fractions() == (DyadicArray.of(matrix) @ vectors).fractions()
        matrix, vectors = matrix.T, found


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 2.0**-16, -(2.0**15), 65535.0, -65536.0, 2.0**52 + 1])
def test_digits_carry_over(value: float) -> None:
    matrix = np.full((70, 70), value)
    vectors = DyadicArray.of(np.full((70, 1), -value))
    assert exact_product(matrix, vectors).fractions() == (DyadicArray.of(matrix) @ vectors).fractions()
