"""Packed features: lossless, of exact sign whatever the product rounds to, and counted right."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.bits.features import (
    block_rows,
    block_words,
    feature_blocks,
    informative_order,
    pack_bits,
    unpack_words,
    valid_bits,
)
from solvers.bits.instructions import affine_sign_lanes, lanes_below, popcount, sign_lanes
from solvers.bits.signs import exact_sign
from solvers.errors import InputError


@numba.njit
def ones(word: int) -> int:
    return popcount(word)


@numba.njit
def below(blocks: np.ndarray, block: int, mask: np.ndarray, limit: int, counts: np.ndarray) -> int:
    return lanes_below(blocks, block, mask, limit, counts)


@numba.njit
def signs(values: np.ndarray, start: int, slack: float) -> tuple[int, int]:
    return sign_lanes(values, start, slack)


@numba.njit
def affine_signs(
    points: np.ndarray, row: int, weights: np.ndarray, biases: np.ndarray, start: int, slack: float
) -> tuple[int, int]:
    return affine_sign_lanes(points, row, weights, biases, start, slack)


def lanes_of(word: int) -> list[bool]:
    return [bool(int(word) >> i & 1) for i in range(64)]


def features(points: np.ndarray, weights: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """The 0/1 rows (N, n) that `feature_blocks` packs."""
    rows, _ = block_rows([np.arange(len(points))])
    blocks = feature_blocks(points, rows, weights, biases)
    return unpack_words(block_words(blocks, np.arange(len(points))), len(biases))


def by_fractions(points: np.ndarray, weights: np.ndarray, biases: np.ndarray) -> np.ndarray:
    return np.array(
        [
            [sum((Fraction(a) * Fraction(c) for a, c in zip(x, w, strict=True)), Fraction(b)) > 0
             for w, b in zip(weights.tolist(), biases.tolist(), strict=True)]
            for x in points.tolist()
        ]
    )  # fmt: skip


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_popcount_is_the_number_of_ones(word: int) -> None:
    counted: Any = ones(np.uint64(word))  # numba types what it compiles as a decorator
    assert counted == word.bit_count()


@pytest.mark.parametrize("width", [1, 63, 64, 65, 200])
def test_packing_is_lossless(width: int) -> None:
    bits = np.random.default_rng(width).random((50, width)) < 0.4
    words = pack_bits(bits)
    assert words.shape == (50, -(-width // 64))
    np.testing.assert_array_equal(unpack_words(words, width), bits)
    assert [int(word) for row in valid_bits(width) for word in [row]] == [
        min(2**64 - 1, 2 ** (width - 64 * w) - 1) for w in range(words.shape[1])
    ]


@pytest.mark.parametrize("depth", [1, 3, 4, 5, 8, 17])
def test_lanes_below_a_limit_are_those_with_fewer_common_features(depth: int) -> None:
    rng = np.random.default_rng(depth)
    blocks = rng.integers(0, 2**63, size=(3, depth, 64), dtype=np.uint64)
    counts = np.zeros(64, dtype=np.int64)
    for block in range(3):
        mask = rng.integers(0, 2**63, size=depth, dtype=np.uint64)
        truth = np.bitwise_count(blocks[block] & mask[:, None]).sum(axis=0)
        for limit in (0, int(truth.min()), int(truth.min()) + 1, int(np.median(truth)), int(truth.max()) + 1):
            lanes = int(below(blocks, block, mask, limit, counts))
            assert [lanes >> i & 1 for i in range(64)] == (truth < limit).astype(int).tolist()
            if lanes:
                np.testing.assert_array_equal(counts, truth)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sign_lanes_compare_with_the_slack_from_any_offset(kind: type[np.floating[Any]]) -> None:
    values = np.random.default_rng(0).integers(-3, 4, size=200).astype(kind)
    for start in (0, 1, 7, 136):
        for slack in (0, 1, 2):
            above, near = signs(values, start, kind(slack))
            assert lanes_of(above) == (values[start : start + 64] > slack).tolist()
            assert lanes_of(near) == (np.abs(values[start : start + 64]) <= slack).tolist()


@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_affine_sign_lanes_are_those_of_the_product(d: int) -> None:
    # Whole numbers: every order of a sum gives the same.
    rng = np.random.default_rng(d)
    points, weights, biases = (rng.integers(-3, 4, size=size).astype(np.float32) for size in ((5, d), (d, 192), 192))
    for row, start, slack in ((0, 0, 1), (4, 64, 0), (2, 128, 3)):
        values = points[row] @ weights[:, start : start + 64] + biases[start : start + 64]
        above, near = affine_signs(points, row, weights, biases, start, np.float32(slack))
        assert lanes_of(above) == (values > slack).tolist()
        assert lanes_of(near) == (np.abs(values) <= slack).tolist()


@pytest.mark.parametrize(("count", "d", "n"), [(1, 1, 1), (64, 2, 64), (5000, 7, 130), (700, 100, 70)])
def test_features_are_the_thresholds_of_the_first_layer(count: int, d: int, n: int) -> None:
    rng = np.random.default_rng(0)
    points, w, b = rng.normal(size=(count, d)), rng.normal(size=(n, d)), rng.normal(size=n)
    np.testing.assert_array_equal(features(points, w, b), points @ w.T + b > 0)


def test_signs_within_rounding_of_zero_are_exact() -> None:
    # Sums that vanish, or miss 0 by less than a unit in the last place of their terms: any order rounds some wrongly.
    rng = np.random.default_rng(1)
    base = rng.normal(size=(40, 6))
    points = np.concatenate([base, -base], axis=1)
    half = rng.normal(size=(30, 6))
    weights = np.concatenate([half, half], axis=1)
    weights[::3, 0] = np.nextafter(weights[::3, 0], np.inf)
    biases = np.where(np.arange(30) % 5 == 0, 1e-20, 0.0)
    found = features(points, weights, biases)
    np.testing.assert_array_equal(found, by_fractions(points, weights, biases))
    assert 0 < found.mean() < 1


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4), st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4),
       st.floats(-1, 1))  # fmt: skip
def test_exact_sign_is_that_of_fractions(point: list[float], weight: list[float], bias: float) -> None:
    x, w = np.array(point), np.array(weight[: len(point)])
    total = sum((Fraction(a) * Fraction(c) for a, c in zip(point, weight, strict=False)), Fraction(bias))
    assert exact_sign(x, w, bias) == (total > 0) - (total < 0)


@pytest.mark.parametrize("d", [3, 20])
@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e-8, 1.0, 1e8, 1e30, 1e200])
def test_signs_are_exact_at_any_scale(d: int, scale: float) -> None:
    """float32 cannot hold some of these, and every pre-activation of the first points is within its rounding of 0."""
    rng = np.random.default_rng(d)
    weights, biases = rng.normal(size=(30, d)), scale * rng.normal(size=30)
    points = rng.normal(size=(30, d))
    # Feature k vanishes at point k but for rounding.
    points -= ((points * weights).sum(axis=1) + biases / scale)[:, None] * weights / (weights**2).sum(axis=1)[:, None]
    points = np.concatenate([scale * points, scale * np.where(rng.random((6, d)) < 0.7, 0.0, 1.0)])
    np.testing.assert_array_equal(features(points, weights, biases), by_fractions(points, weights, biases))


def test_long_sums_are_taken_in_float64_and_exact() -> None:
    """At d = 20 000 the bound on float32 sums is too wide for a sign."""
    rng = np.random.default_rng(5)
    points, weights = rng.normal(size=(3, 20_000)), rng.normal(size=(2, 20_000))
    points[0] -= (points[0] @ weights[0]) / (weights[0] @ weights[0]) * weights[0]
    np.testing.assert_array_equal(features(points, weights, np.zeros(2)), by_fractions(points, weights, np.zeros(2)))


def test_the_zero_point_has_the_signs_of_the_biases() -> None:
    biases = np.array([-1.0, 0.0, 5e-324, 1.0])
    assert features(np.zeros((3, 2)), np.ones((4, 2)), biases).tolist() == [[False, False, True, True]] * 3


def test_bits_do_not_depend_on_how_points_are_put_together() -> None:
    rng = np.random.default_rng(2)
    points, w, b = rng.normal(size=(3000, 90)), rng.normal(size=(300, 90)), rng.normal(size=300)
    whole = features(points, w, b)
    parts = [features(points[k : k + 37], w, b) for k in range(0, 3000, 37)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    order = rng.permutation(3000)
    np.testing.assert_array_equal(features(points[order], w, b), whole[order])


@pytest.mark.parametrize("d", [2, 90])
def test_bits_do_not_depend_on_threads_or_on_where_products_are_taken(d: int) -> None:
    rng = np.random.default_rng(2)
    points, w, b = rng.normal(size=(9000, d)), rng.normal(size=(300, d)), rng.normal(size=300)
    rows, _ = block_rows([np.arange(len(points))])
    whole = feature_blocks(points, rows, w, b)
    np.testing.assert_array_equal(feature_blocks(points, rows, w, b, threads=3), whole)
    # The same code as on a GPU.
    np.testing.assert_array_equal(feature_blocks(points, rows, w, b, device="cpu:0"), whole)


def test_groups_begin_new_blocks_and_empty_places_hold_every_feature() -> None:
    rows, starts = block_rows([np.arange(3), np.arange(3, 70)])
    assert starts.tolist() == [0, 1, 3]
    assert rows[:3].tolist() == [0, 1, 2]
    assert rows[64:131].tolist() == list(range(3, 70))
    assert (rows < 0).sum() == 192 - 70
    rng = np.random.default_rng(3)
    blocks = feature_blocks(rng.normal(size=(70, 2)), rows, rng.normal(size=(70, 2)), rng.normal(size=70))
    empty = np.flatnonzero(rows < 0)
    assert (block_words(blocks, empty) == valid_bits(70)).all()


def test_the_order_of_features_is_a_permutation_with_useful_ones_first() -> None:
    rng = np.random.default_rng(4)
    points = rng.uniform(-1, 1, size=(5000, 2))
    weights = np.where(np.arange(400)[:, None] % 2, 1.0, 1e-6) * rng.normal(size=(400, 2))
    order = informative_order(points, weights, np.full(400, 0.1))
    assert sorted(order.tolist()) == list(range(400))
    # The features with tiny weights are 1 everywhere and tell nothing apart.
    assert set((order[:150] % 2).tolist()) == {1}


def test_numbers_that_overflow_are_refused() -> None:
    with pytest.raises(InputError, match="scale them down"):
        features(np.array([[1e305, 1e305]]), np.array([[1.0, 2.0]]), np.zeros(1))
