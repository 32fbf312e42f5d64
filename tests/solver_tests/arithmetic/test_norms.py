"""Norms and exponents against their definitions, in 50-digit arithmetic where rounding matters."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from solvers.arithmetic.norms import (
    check_exponent,
    dual_exponent,
    exponent_label,
    parse_exponent,
    scalar_norm,
    vector_norm,
)
from solvers.errors import InputError
from tests.strategies import DETERMINISTIC, eighths, exponents, vectors


def norm_by_definition(vector: np.ndarray, q: float) -> mpmath.mpf:
    """(sum |x_i|^q)^(1/q) or max |x_i|, to 50 digits."""
    with mpmath.workdps(50):
        sizes = [abs(mpmath.mpf(float(x))) for x in vector]
        if math.isinf(q):
            return max(sizes)
        return mpmath.fsum(size ** mpmath.mpf(q) for size in sizes) ** (1 / mpmath.mpf(q))


@DETERMINISTIC
@given(vectors(), exponents())
@example(np.array([1e-300, 1e-300]), 2.0)
@example(np.array([1e300, -1e300, 3.0]), 4.0)
@example(np.array([5e-324, 5e-324, 5e-324, 5e-324]), 2.0)
@example(np.array([1.0, 1e-200, 0.0]), 1e6)
@example(np.zeros(3), 1.5)
def test_vector_norm_is_the_definition(vector: np.ndarray, q: float) -> None:
    truth = float(norm_by_definition(vector, q))
    assert float(vector_norm(vector, q)) == pytest.approx(truth, rel=4e-15, abs=0)


@DETERMINISTIC
@given(vectors(), exponents())
@example(np.array([1e-300, 1e-300]), 2.0)
@example(np.array([1e300, -1e300, 3.0]), 4.0)
def test_scalar_norm_is_the_definition_to_a_few_units_in_the_last_place(vector: np.ndarray, q: float) -> None:
    truth = float(norm_by_definition(vector, q))
    assert scalar_norm(vector.tolist(), q) == pytest.approx(truth, rel=1e-15, abs=0)


def test_the_norm_of_nothing_is_zero() -> None:
    for q in (1.0, 1.5, math.inf):
        assert scalar_norm([], q) == 0.0
        assert vector_norm(np.zeros((3, 0)), q).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("q", [1.0, 1.5, 2.0, math.inf])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_axis_is_the_one_that_goes(q: float, axis: int) -> None:
    array = np.random.default_rng(0).standard_normal((3, 4, 5))
    wanted = np.apply_along_axis(lambda x: np.linalg.norm(x, q), axis, array)
    np.testing.assert_allclose(vector_norm(array, q, axis=axis), wanted, rtol=1e-14)


@DETERMINISTIC
@given(exponents())
def test_dual_exponents_add_up_to_one(p: float) -> None:
    dual = dual_exponent(p)
    inverse = (0.0 if math.isinf(p) else 1 / p) + (0.0 if math.isinf(dual) else 1 / dual)
    assert inverse == pytest.approx(1.0, rel=1e-15)
    assert dual >= 1
    assert dual_exponent(dual) == pytest.approx(p, rel=1e-12 * max(1.0, min(p, dual)))


@DETERMINISTIC
@given(st.lists(eighths(), min_size=1, max_size=6), exponents(), st.integers(0, 2**32))
def test_the_dual_norm_is_the_largest_product_with_a_unit_vector(entries: list[float], p: float, seed: int) -> None:
    """||g||_{p'} = max <g, x> over ||x||_p = 1: no x exceeds it, and Hoelder's x attains it."""
    g, q = np.array(entries), dual_exponent(p)
    dual = float(vector_norm(g, q))
    draws = np.random.default_rng(seed).standard_normal((50, len(g)))
    assert (draws @ g <= dual * vector_norm(draws, p) * (1 + 1e-13) + 1e-300).all()
    if not g.any():
        assert dual == 0.0
        return
    if math.isinf(q):
        best = np.sign(g) * (np.abs(g) == np.abs(g).max())
        best[np.flatnonzero(best)[1:]] = 0.0
    else:
        best = np.sign(g) * (np.abs(g) / np.abs(g).max()) ** (q - 1)
    assert best @ g == pytest.approx(dual * float(vector_norm(best, p)), rel=1e-12)


@DETERMINISTIC
@given(exponents())
@example(1.1)
@example(4 / 3)
@example(math.nextafter(2.0, 3.0))
def test_a_label_reads_back_as_its_exponent(p: float) -> None:
    assert parse_exponent(exponent_label(p)) == p


def test_labels_are_short() -> None:
    assert [exponent_label(p) for p in (1.0, 2.0, 1.25, math.inf)] == ["1", "2", "1.25", "inf"]


@pytest.mark.parametrize("text", ["inf", "Infinity", math.inf])
def test_infinity_has_a_name(text: str | float) -> None:
    assert parse_exponent(text) == math.inf


@pytest.mark.parametrize("text", ["two", "", None, [2.0], "1,5"])
def test_what_is_no_number_is_refused(text: object) -> None:
    with pytest.raises(InputError, match=r"p must be a number in \[1, inf\]"):
        parse_exponent(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [0.999, 0.0, -1.0, -math.inf, math.nan])
def test_below_one_there_is_no_norm(p: float) -> None:
    for refuse in (check_exponent, parse_exponent, dual_exponent):
        with pytest.raises(InputError, match="below 1 it is not a norm"):
            refuse(p)
