"""Operator norms against brute definitions: the largest ||W x||_b over the unit ball of l_a."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers.arithmetic import operator_norms
from solvers.arithmetic.norms import dual_exponent, vector_norm
from solvers.arithmetic.operator_norms import OperatorNorms, spectral_bound
from solvers.errors import InputError
from tests.strategies import DETERMINISTIC, exponents, matrices

inf = math.inf


def corners(n: int) -> np.ndarray:
    """The corners of [-1, 1]^n, one of each opposite pair: extreme points of the unit ball of l_inf."""
    return np.array([(1.0, *rest) for rest in itertools.product((-1.0, 1.0), repeat=n - 1)])


def largest_on(points: np.ndarray, w: np.ndarray, b: float) -> float:
    """max ||W x||_b over the rows x: the operator norm when they are the extreme points of the unit ball."""
    return float(vector_norm(points @ w.T, b).max())


def spectral_by_eigenvalues(w: np.ndarray) -> float:
    return math.sqrt(max(0.0, float(np.linalg.eigvalsh(w @ w.T)[-1])))


@DETERMINISTIC
@given(matrices(), exponents(), exponents(), st.integers(0, 2**32))
def test_no_vector_is_stretched_by_more(w: np.ndarray, a: float, b: float, seed: int) -> None:
    bound = OperatorNorms(w).bound(a, b)
    x = np.random.default_rng(seed).standard_normal((100, w.shape[1]))
    x = np.vstack([x, np.eye(w.shape[1]), corners(w.shape[1])])
    assert (vector_norm(x @ w.T, b) <= bound * vector_norm(x, a) * (1 + 1e-15)).all()
    if not w.any():
        assert bound == 0.0


@DETERMINISTIC
@given(matrices(), exponents())
def test_from_l1_it_is_the_largest_over_the_unit_vectors(w: np.ndarray, b: float) -> None:
    truth = largest_on(np.eye(w.shape[1]), w, b)
    bound = OperatorNorms(w).bound(1.0, b)
    assert truth <= bound <= truth * (1 + 1e-12)


@DETERMINISTIC
@given(matrices(), exponents())
def test_to_linf_it_is_the_largest_row_in_the_dual_norm(w: np.ndarray, a: float) -> None:
    # Powers of scaled rows neither over- nor underflow to what counts.
    sizes = [float(np.abs(row).max()) or 1.0 for row in w]
    truth = max(c * float(np.linalg.norm(row / c, dual_exponent(a))) for row, c in zip(w, sizes, strict=True))
    bound = OperatorNorms(w).bound(a, inf)
    assert bound == pytest.approx(truth, rel=1e-12)
    assert bound >= truth


@DETERMINISTIC
@given(matrices())
def test_between_euclidean_norms_it_is_the_largest_singular_value(w: np.ndarray) -> None:
    bound = OperatorNorms(w).bound(2.0, 2.0)
    # The square root of an eigenvalue of W W^T keeps half the digits when it is small beside the largest entry.
    assert bound == pytest.approx(spectral_by_eigenvalues(w), rel=1e-7, abs=1e-7)
    right = np.linalg.svd(w)[2]
    assert float(np.linalg.norm(w @ right[0])) <= bound * (1 + 1e-15)


@DETERMINISTIC
@given(matrices(), exponents())
def test_hard_pairs_are_bounded_from_above(w: np.ndarray, other: float) -> None:
    """From l_inf the norm is attained at a corner of the cube; to l_1 it is that of the transpose into the dual."""
    rows, columns = w.shape
    assert OperatorNorms(w).bound(inf, other) >= largest_on(corners(columns), w, other) * (1 - 1e-15)
    assert OperatorNorms(w).bound(other, 1.0) >= largest_on(corners(rows), w.T, dual_exponent(other)) * (1 - 1e-15)


def test_hard_pairs_are_not_bounded_by_less_than_the_best_easy_bound() -> None:
    """Never worse than comparing norms with the exact neighbours, and strictly better where interpolation helps."""
    w = np.random.default_rng(1).standard_normal((6, 5))
    one = float(np.abs(w).sum(axis=0).max())
    infinity = float(np.abs(w).sum(axis=1).max())
    spectral = float(np.linalg.svd(w, compute_uv=False)[0])
    # Riesz-Thorin at 1/p = 3/4, half-way between 1 and 2.
    assert OperatorNorms(w).bound(4 / 3, 4 / 3) <= math.sqrt(one * spectral) * (1 + 1e-12)
    assert OperatorNorms(w).bound(4.0, 4.0) <= math.sqrt(infinity * spectral) * (1 + 1e-12)
    assert OperatorNorms(w).bound(4.0, 4.0) < spectral * 5**0.25
    assert OperatorNorms(w).bound(inf, 1.0) <= float(np.abs(w).sum()) * (1 + 1e-12)


def test_an_exponent_below_one_is_refused() -> None:
    for a, b in ((0.5, 2.0), (2.0, 0.5), (math.nan, 2.0)):
        with pytest.raises(InputError):
            OperatorNorms(np.eye(2)).bound(a, b)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
@pytest.mark.parametrize("shape", [(160, 300), (300, 160)], ids=str)
def test_a_spectral_bound_holds_whatever_the_time_allows(
    shape: tuple[int, int], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = np.random.default_rng(3).standard_normal(shape)
    truth = float(np.linalg.svd(w, compute_uv=False)[0]) * scale
    steps = [operator_norms._largest_singular_value, operator_norms._bound_by_cholesky]
    found = []
    for affordable in ({*steps}, {steps[1]}, set()):
        expected = {step: 1.0 if step in affordable else 3.0 for step in steps}
        monkeypatch.setattr(operator_norms, "_expected_seconds", lambda step, matrix, of=expected: of[step])
        found.append(spectral_bound(w * scale, 2.0))
    assert truth <= found[0] <= truth * (1 + 1e-9)
    assert truth < found[1] <= truth * 1.03
    assert truth < found[2] <= np.linalg.norm(w) * scale * (1 + 1e-9)
    assert found[2] > found[1] > found[0]


@pytest.mark.parametrize("w", [np.zeros((3, 4)), np.ones((200, 200)), np.eye(150)], ids=["zero", "rank 1", "identity"])
def test_a_spectral_bound_by_cholesky_of_special_matrices(w: np.ndarray) -> None:
    truth = float(np.linalg.svd(w, compute_uv=False)[0])
    assert truth <= operator_norms._bound_by_cholesky(w) <= truth * 1.03
