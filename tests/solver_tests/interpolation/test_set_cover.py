"""Covers of bits by rows: greedy as by hand, the least as by trying all, and bounds that no cover undercuts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from solvers.bits.features import pack_bits
from solvers.interpolation.least_cover import choose_rows, least_cover
from solvers.interpolation.set_cover import greedy_cover, needed_rows


def some_rows(seed: int, most: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, most)), int(rng.integers(1, 150))
    return rng.random(shape) < rng.uniform(0.02, 0.6)


def by_hand(rows: np.ndarray) -> list[int]:
    """The first row that covers most of what is left, again and again."""
    left: np.ndarray = np.asarray(rows.any(axis=0))
    chosen: list[int] = []
    while left.any():
        gains = [int((row & left).sum()) for row in rows]
        chosen.append(gains.index(max(gains)))
        left = left & ~rows[chosen[-1]]
    return chosen


def least_by_trying(rows: np.ndarray) -> int:
    for size in range(len(rows) + 1):
        for some in itertools.combinations(range(len(rows)), size):
            if (rows[list(some)].any(axis=0) == rows.any(axis=0)).all():
                return size
    raise AssertionError("all rows together cover what they cover")


@pytest.mark.parametrize("seed", range(30))
def test_greedy_is_as_by_hand(seed: int) -> None:
    rows = some_rows(seed)
    left = np.bitwise_or.reduce(pack_bits(rows), axis=0)
    assert greedy_cover(pack_bits(rows), left).tolist() == by_hand(rows)
    assert not left.any()


@pytest.mark.parametrize("seed", range(30))
def test_dropping_needless_rows_leaves_the_union_and_no_needless_row(seed: int) -> None:
    rows = some_rows(seed)
    kept = rows[needed_rows(pack_bits(rows))]
    np.testing.assert_array_equal(kept.any(axis=0), rows.any(axis=0))
    assert all((kept[k] & (kept.sum(axis=0) == 1)).any() for k in range(len(kept)))


@pytest.mark.parametrize("seed", range(30))
def test_the_least_cover_is_least_and_proved(seed: int) -> None:
    rows = some_rows(seed, 11)
    chosen, at_least = choose_rows(pack_bits(rows), True, 60.0)
    np.testing.assert_array_equal(rows[chosen].any(axis=0), rows.any(axis=0))
    assert len(chosen) == at_least == least_by_trying(rows)


@pytest.mark.parametrize("seed", range(20))
def test_without_a_program_the_bound_still_holds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solvers.interpolation.least_cover.MOST_ENTRIES", -1)
    rows = some_rows(seed, 11)
    start = np.arange(len(rows))
    chosen, at_least = least_cover(pack_bits(rows), start, 60.0)
    np.testing.assert_array_equal(chosen, start)
    # Fractional covers may be smaller by a factor below ln(points) + 1; a bound that is nowhere near says nothing.
    assert least_by_trying(rows) / 3 <= at_least <= least_by_trying(rows)


def test_lines_of_the_smallest_projective_plane() -> None:
    """Seven lines of three points, any two of which meet in one: two cover 5 of the 7 points, three can cover all."""
    lines = np.zeros((7, 7), dtype=np.bool_)
    for k in range(7):
        lines[k, [k % 7, (k + 1) % 7, (k + 3) % 7]] = True
    chosen, at_least = choose_rows(pack_bits(lines), True, 60.0)
    assert len(chosen) == at_least == 3


def test_a_program_mends_what_greedy_does_badly() -> None:
    """Two rows of 2^k - 1 points cover all; greedy takes k rows that each hold just over half of what is left."""
    k = 6
    sizes = [2**j for j in range(1, k + 1)]
    ends = np.cumsum([0, *sizes])
    rows = np.zeros((k + 2, 2 * (2**k - 1)), dtype=np.bool_)
    for j in range(k):
        rows[j, ends[j] : ends[j + 1]] = True
    rows[k, ::2], rows[k + 1, 1::2] = True, True
    assert len(choose_rows(pack_bits(rows), False, 0.0)[0]) == k
    chosen, at_least = choose_rows(pack_bits(rows), True, 60.0)
    assert chosen.tolist() == [k, k + 1]
    assert at_least == 2


def test_rows_that_cover_nothing_need_no_cover() -> None:
    chosen, at_least = choose_rows(pack_bits(np.zeros((5, 9), dtype=np.bool_)), True, 60.0)
    assert (len(chosen), at_least) == (0, 0)
