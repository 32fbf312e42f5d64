"""Estimates: exact where they must be, covering at the stated rate where random, honest about open intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from solvers.errors import InputError
from tasks.statistics import (
    Estimate,
    bootstrap_mean,
    censored_mean,
    censored_quantile,
    censored_share,
    exponent_fit,
    wilson_share,
)
from tests.strategies import DETERMINISTIC

inf = math.inf


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@DETERMINISTIC
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_the_mean_is_the_mean_inside_its_interval(values: list[float]) -> None:
    found = bootstrap_mean(values, rng=rng(), resamples=100)
    assert found.value == pytest.approx(math.fsum(values) / len(values), rel=1e-12, abs=1e-9)
    assert min(values) - 1e-9 <= found.low <= found.value <= found.high <= max(values) + 1e-9


def test_equal_values_leave_no_doubt() -> None:
    assert bootstrap_mean([3.0] * 20, rng=rng()) == Estimate(3.0, 3.0, 3.0)
    assert bootstrap_mean([7.0], rng=rng()) == Estimate(7.0, 7.0, 7.0)


def test_the_bootstrap_interval_is_that_of_its_definition() -> None:
    """The values 0 and 1 resample to a mean of 0, 1/2 or 1 with chances 1/4, 1/2 and 1/4: the 80 % interval is [0, 1]
    and the 40 % one is the point 1/2; another outcome of 20 000 resamples has a chance below 1e-50."""
    assert bootstrap_mean([0.0, 1.0], rng=rng(), level=0.8, resamples=20_000) == Estimate(0.5, 0.0, 1.0)
    assert bootstrap_mean([0.0, 1.0], rng=rng(), level=0.4, resamples=20_000) == Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize(("law", "mean"), [("normal", 2.0), ("exponential", 1.0), ("uniform", 0.5)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says(law: str, mean: float, level: float) -> None:
    """400 samples of 60 values. The true coverage of the percentile interval is within 3 points of the level for these
    laws; five binomial standard deviations (chance 6e-7 for each of the six cases) are added."""
    source = np.random.default_rng([len(law), int(100 * level)])
    draw = {
        "normal": lambda: source.normal(2.0, 3.0, 60),
        "exponential": lambda: source.exponential(1.0, 60),
        "uniform": lambda: source.uniform(0.0, 1.0, 60),
    }[law]
    met = 0
    for _ in range(400):
        found = bootstrap_mean(draw(), rng=source, level=level, resamples=400)
        met += found.low <= mean <= found.high
    allowed = 0.03 + 5 * math.sqrt(level * (1 - level) / 400)
    assert abs(met / 400 - level) <= allowed


@pytest.mark.parametrize("total", [1, 2, 7, 50])
def test_wilson_solves_its_own_equation(total: int) -> None:
    """Its ends are the shares q at which the seen share lies z standard deviations sqrt(q (1 - q) / n) away."""
    z = float(stats.norm.ppf(0.975))
    for successes in range(total + 1):
        found = wilson_share(successes, total)
        assert found.value == successes / total
        assert 0 <= found.low <= found.value <= found.high <= 1
        for end in (found.low, found.high):
            away = abs(found.value - end)
            assert away == pytest.approx(z * math.sqrt(end * (1 - end) / total), abs=1e-9)
        assert (found.low == 0) == (successes == 0)
        assert (found.high == 1) == (successes == total)


@pytest.mark.parametrize(("successes", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_shares_are_refused(successes: int, total: int) -> None:
    with pytest.raises(InputError, match="0 <= successes <= total"):
        wilson_share(successes, total)


@DETERMINISTIC
@given(
    st.floats(-3.0, 3.0),
    st.floats(0.01, 100.0),
    st.lists(st.integers(1, 1000), min_size=2, max_size=6, unique=True),
)
def test_an_exact_power_law_gives_its_exponent(exponent: float, factor: float, sizes: list[int]) -> None:
    samples = [[factor * size**exponent] * 3 for size in sizes]
    found = exponent_fit(sizes, samples, rng=rng(), resamples=20)
    for value in (found.value, found.low, found.high):
        assert value == pytest.approx(exponent, abs=1e-9)


def test_the_exponent_is_that_of_the_mean_not_of_the_typical_draw() -> None:
    """Draws 0 or 2 s^2 with equal chance: most logarithms do not exist, yet the mean is s^2."""
    sizes = [1, 2, 4, 8]
    samples = [np.tile([0.0, 2.0 * s**2], 100) for s in sizes]
    found = exponent_fit(sizes, samples, rng=rng())
    assert found.value == pytest.approx(2.0, abs=1e-12)
    assert found.low < 2.0 < found.high


def test_the_exponent_interval_covers_as_often_as_it_says() -> None:
    """300 fits to exponential draws of mean s^0.5; 95 % within 3 points and five standard deviations (chance 6e-7)."""
    source, sizes, met = np.random.default_rng(5), [2, 3, 4, 5], 0
    for _ in range(300):
        samples = [source.exponential(math.sqrt(s), 60) for s in sizes]
        found = exponent_fit(sizes, samples, rng=source, resamples=300)
        met += found.low <= 0.5 <= found.high
    assert abs(met / 300 - 0.95) <= 0.03 + 5 * math.sqrt(0.95 * 0.05 / 300)


def test_resamples_without_a_positive_value_leave_the_exponent_open() -> None:
    """Of three draws two are 0: a resample is all zeros with chance 8/27, and its slope has no bound on that side."""
    found = exponent_fit([1, 2], [[1.0, 1.0, 1.0], [0.0, 0.0, 3.0]], rng=rng())
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert found.low == -inf
    assert math.isfinite(found.high)
    both = exponent_fit([1, 2], [[0.0, 0.0, 3.0], [0.0, 0.0, 3.0]], rng=rng())
    assert (both.low, both.high) == (-inf, inf)


@pytest.mark.parametrize(
    ("sizes", "samples", "message"),
    [
        ([2], [[1.0]], "at least two different sizes"),
        ([2, 2], [[1.0], [2.0]], "at least two different sizes"),
        ([0, 2], [[1.0], [2.0]], "positive"),
        ([-1, 2], [[1.0], [2.0]], "positive"),
        ([1, 2], [[1.0], [0.0]], "positive"),
        ([1, 2], [[1.0], [-2.0]], "positive"),
        ([1, 2], [[1.0], [inf]], "finite"),
        ([1, 2], [[1.0], []], "at least one value"),
        ([1, 2, 3], [[1.0], [2.0]], "as many samples as sizes"),
    ],
)
def test_impossible_fits_are_refused(sizes: list[float], samples: list[list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        exponent_fit(sizes, samples, rng=rng())


def intervals() -> st.SearchStrategy[list[tuple[float, float]]]:
    pair = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda ends: (min(ends), max(ends)))
    half_open = st.floats(0, 100).map(lambda low: (low, inf))
    return st.lists(pair | half_open, min_size=1, max_size=20)


@DETERMINISTIC
@given(intervals(), st.integers(0, 2**32))
def test_whatever_the_true_values_their_mean_lies_between_the_two_estimates(
    ends: list[tuple[float, float]], seed: int
) -> None:
    lows, highs = (np.array(side) for side in zip(*ends, strict=True))
    below, above = censored_mean(lows, highs, rng=rng(), resamples=50)
    truth = lows + np.random.default_rng(seed).uniform(0, 1, len(lows)) * np.minimum(highs - lows, 1e3)
    assert below.value <= truth.mean() * (1 + 1e-12)
    assert above.value >= truth.mean() * (1 - 1e-12)
    assert below.low <= below.value <= below.high
    assert above.low <= above.value <= above.high
    assert math.isfinite(below.high)
    assert math.isinf(above.value) == bool(np.isinf(highs).any())


@DETERMINISTIC
@given(intervals(), st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]), st.integers(0, 2**32))
def test_whatever_the_true_values_their_quantile_lies_between_the_two(
    ends: list[tuple[float, float]], share: float, seed: int
) -> None:
    lows, highs = (np.array(side) for side in zip(*ends, strict=True))
    below, above = censored_quantile(lows, highs, share)
    truth = lows + np.random.default_rng(seed).uniform(0, 1, len(lows)) * np.minimum(highs - lows, 1e3)
    assert below <= np.quantile(truth, share) * (1 + 1e-12)
    assert above >= np.quantile(truth, share) * (1 - 1e-12)


def test_finished_solves_give_the_plain_mean() -> None:
    values = rng().exponential(size=40)
    below, above = censored_mean(values, values, rng=rng())
    assert below == above
    plain = bootstrap_mean(values, rng=rng())
    assert below.value == plain.value
    assert below.low == pytest.approx(plain.low, rel=0.01)
    assert below.high == pytest.approx(plain.high, rel=0.01)


def test_one_open_interval_among_many_is_not_dropped() -> None:
    lows, highs = [1.0] * 99 + [5.0], [1.0] * 99 + [inf]
    below, above = censored_mean(lows, highs, rng=rng())
    assert below.value == pytest.approx(1.04)
    assert above.value == inf
    assert above.high == inf
    assert censored_quantile(lows, highs, 0.5) == (1.0, 1.0)
    assert censored_quantile(lows, highs, 1.0) == (5.0, inf)
    assert censored_share(lows, highs, 1e-6) == 0.01


def test_an_interval_counts_as_unfinished_when_it_is_wider_than_the_gap() -> None:
    lows, highs = [1.0, 1.0, 0.0, 3.0, 0.0], [1.0, 1.001, 0.0, inf, inf]
    assert censored_share(lows, highs, 1e-2) == 0.4
    assert censored_share(lows, highs, 1e-4) == pytest.approx(0.6)
    assert censored_share(lows, highs, 0.0) == pytest.approx(0.6)


@pytest.mark.parametrize(("lows", "highs"), [([1.0, 2.0], [1.0]), ([2.0], [1.0]), ([math.nan], [1.0]), ([], [])])
def test_ends_that_are_no_intervals_are_refused(lows: list[float], highs: list[float]) -> None:
    for estimate in (
        lambda: censored_mean(lows, highs, rng=rng()),
        lambda: censored_quantile(lows, highs, 0.5),
        lambda: censored_share(lows, highs, 0.1),
    ):
        with pytest.raises(InputError):
            estimate()


def test_an_estimate_reads_as_a_sentence_would_say_it() -> None:
    assert Estimate(1.2345, 1.2, 1.3).text() == "1.23 (1.2 to 1.3)"
    assert Estimate(1.0, 0.5, inf).text() == "1 (0.5 to inf)"
