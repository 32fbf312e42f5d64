"""Points strictly inside polytopes, and proofs that there are none, each checked in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from solvers.lipschitz.bounds import exact_interiors
from solvers.lipschitz.bounds.exact_interiors import point_or_proof
from solvers.lipschitz.bounds.exact_patterns import empty_by_exact_multipliers

Rows = list[list[Fraction]]


def exactly(rows: np.ndarray) -> Rows:
    return [[Fraction(v) for v in row] for row in rows.tolist()]


def assert_inside(rows: Rows, low: np.ndarray, high: np.ndarray, point: list[Fraction]) -> None:
    assert all(Fraction(a) < x < Fraction(b) for a, x, b in zip(low.tolist(), point, high.tolist(), strict=True))
    for row in rows:
        value = row[-1] + sum(a * x for a, x in zip(row[:-1], point, strict=True))
        assert value > 0 or not any(row)


def assert_empty(rows: Rows, low: np.ndarray, high: np.ndarray, proof: list[tuple[int, Fraction]]) -> None:
    """Farkas: y >= 0, not all 0 and not only of rows that vanish, with y (A x + b) <= 0 at every corner's best."""
    assert proof
    assert all(y > 0 for _, y in proof)
    assert any(any(rows[i]) for i, _ in proof)
    total = sum(y * rows[i][-1] for i, y in proof)
    for j in range(len(low)):
        slope = sum(y * rows[i][j] for i, y in proof)
        total += slope * Fraction(float(high[j] if slope > 0 else low[j]))
    assert total <= 0


@pytest.mark.parametrize("seed", range(40))
def test_random_polytopes_around_a_point_and_without_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k, m = int(rng.integers(1, 6)), int(rng.integers(2, 20))
    low = rng.uniform(-2, 0, k)
    high = low + 10.0 ** rng.integers(-6, 3, k)
    a = rng.standard_normal((m, k)) / (high - low) * 10.0 ** rng.integers(-8, 9, (m, 1))
    inside = low + rng.uniform(0.2, 0.8, k) * (high - low)
    rows = exactly(np.column_stack([a, rng.uniform(0.01, 1, m) * np.abs(a).max(axis=1) * (high - low).max()]))
    for row in rows:  # moved exactly, so that the point is inside by the margins drawn
        row[-1] -= sum(s * Fraction(x) for s, x in zip(row[:-1], inside.tolist(), strict=True))
    point, proof = point_or_proof(rows, low, high)
    assert proof is None
    assert point is not None
    assert_inside(rows, low, high, point)
    # The first row and its opposite leave nothing, though together with others they may hide it.
    closed = [*rows, [-v for v in rows[0]]]
    point, proof = point_or_proof(closed, low, high, start=[1])
    assert point is None
    assert proof is not None
    assert_empty(closed, low, high, proof)


@pytest.mark.parametrize("width", [2.0**-30, 2.0**-200, 0.0, -(2.0**-200)])
def test_slivers_of_any_width(width: float) -> None:
    """0 < x - y < width: open, however narrow; empty from 0 on."""
    rows = exactly(np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, width]]))
    low, high = np.zeros(2), np.ones(2)
    point, proof = point_or_proof(rows, low, high)
    if width > 0:
        assert proof is None
        assert point is not None
        assert_inside(rows, low, high, point)
    else:
        assert proof is not None
        assert_empty(rows, low, high, proof)


def test_faces_of_the_box_belong_to_the_proof() -> None:
    """x > 1 on [0, 1]: open there, closed half-spaces would meet in a point."""
    low, high = np.zeros(1), np.ones(1)
    assert point_or_proof(exactly(np.array([[1.0, -1.0]])), low, high)[1] == [(0, Fraction(1))]
    point, _ = point_or_proof(exactly(np.array([[1.0, -0.5]])), low, high)
    assert point is not None
    assert Fraction(1, 2) < point[0] < 1


def test_constant_rows() -> None:
    low, high = np.zeros(2), np.ones(2)
    nothing, negative, positive = [0.0, 0.0, 0.0], [0.0, 0.0, -1e-300], [0.0, 0.0, 1.0]
    assert point_or_proof(exactly(np.array([nothing, positive, negative])), low, high) == (None, [(2, Fraction(1))])
    point, proof = point_or_proof(exactly(np.array([nothing, positive])), low, high)
    assert proof is None
    assert point == [Fraction(1, 2), Fraction(1, 2)] or all(0 < x < 1 for x in point or [])


def test_programs_that_are_too_long_are_left_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_interiors, "MOST_PIVOTS", 0)
    rows = exactly(np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, -0.5]]))
    assert point_or_proof(rows, np.zeros(2), np.ones(2)) == (None, None)


@pytest.mark.parametrize("factor", [1.0, 2.0**30, 2.0**-30])
def test_multipliers_count_whatever_the_scale_of_their_rows(factor: float) -> None:
    """x > 0, y > 0, -x - y > 0: the multiplier of a row is small where the row is large."""
    rows = exactly(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-factor, -factor, 0.0]]))
    low, high = -np.ones(2), np.ones(2)
    proof = empty_by_exact_multipliers(rows, low, high, [1.0, 1.0, 1.0 / factor])
    assert proof is not None
    assert_empty(rows, low, high, proof)
