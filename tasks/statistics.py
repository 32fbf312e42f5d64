"""Estimates with intervals. An unfinished solve is an interval and stays one: it is never dropped.

Random resampling draws from a generator that the caller derives from content, so figures do not change from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from solvers.errors import InputError

__all__ = [
    "Estimate",
    "bootstrap_mean",
    "censored_mean",
    "censored_quantile",
    "censored_share",
    "exponent_fit",
    "relative_gaps",
    "varying",
    "wilson_share",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its confidence interval, low <= value <= high."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """`1.23 (1.20 to 1.26)`."""
        return f"{self.value:.{digits}g} ({self.low:.{digits}g} to {self.high:.{digits}g})"


def _values(values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0 or np.isnan(array).any():
        raise InputError("an estimate needs at least one value and no NaN")
    return array


def bootstrap_mean(
    values: ArrayLike, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Estimate:
    """Mean with a percentile bootstrap interval.

    Source: [Efron79]; [ET93, chapter 13].
    """
    array = _values(values)
    means = array[rng.integers(0, array.size, size=(resamples, array.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(array.mean())
    return Estimate(mean, min(float(low), mean), max(float(high), mean))


def wilson_share(successes: int, total: int, level: float = 0.95) -> Estimate:
    """A share with Wilson's score interval, sensible at 0 and 1 too.

    Source: [Wilson27].
    """
    if not 0 <= successes <= total or total < 1:
        raise InputError(f"a share needs 0 <= successes <= total and total >= 1, got {successes} of {total}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Estimate(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def _intervals(lowers: ArrayLike, uppers: ArrayLike) -> tuple[FloatArray, FloatArray]:
    low, high = _values(lowers), _values(uppers)
    if low.shape != high.shape or (low > high).any():
        raise InputError("censored values need as many lower as upper ends, each lower end below its upper one")
    return low, high


def relative_gaps(lowers: ArrayLike, uppers: ArrayLike) -> FloatArray:
    """(upper - lower) / upper of every interval: 0 where both ends are 0, 1 where there is no upper bound."""
    low, high = _intervals(lowers, uppers)
    open_ended = np.isinf(high)
    width = np.where(open_ended, 1.0, high - np.where(open_ended, 0.0, low))
    return np.asarray(width / np.where(open_ended | (width == 0), 1.0, np.abs(high)))


def censored_share(lowers: ArrayLike, uppers: ArrayLike, relative_gap: float) -> float:
    """Share of solves whose interval is wider than a relative gap; without an upper bound it is wider than any."""
    gaps = relative_gaps(lowers, uppers)
    return float(np.mean((gaps > relative_gap) | np.isinf(_values(uppers))))


def censored_mean(
    lowers: ArrayLike, uppers: ArrayLike, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[Estimate, Estimate]:
    """The mean of values known only as intervals lies between the means of their ends.

    Returns:
        Estimates of the mean of the lower ends and of the upper ends (the latter may be infinite), from the same
        resamples.
    """
    low, high = _intervals(lowers, uppers)
    rows = rng.integers(0, low.size, size=(resamples, low.size))
    found = []
    for ends in (low, high):
        means = ends[rows].mean(axis=1)
        mean = float(ends.mean())
        # "nearest" ranks, so an infinite end does not turn into NaN by interpolation.
        bounds = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], method="nearest")
        found.append(Estimate(mean, min(float(bounds[0]), mean), max(float(bounds[1]), mean)))
    return found[0], found[1]


def censored_quantile(lowers: ArrayLike, uppers: ArrayLike, share: float) -> tuple[float, float]:
    """The quantile of values known only as intervals lies between the quantiles of their ends."""
    low, high = _intervals(lowers, uppers)
    return (
        float(np.quantile(low, share, method="lower")),
        float(np.quantile(high, share, method="higher")),
    )


def exponent_fit(
    sizes: Sequence[float],
    samples: Sequence[ArrayLike],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> Estimate:
    """The e in mean ~ c size^e, by least squares of log mean on log size, draws resampled within every size.

    Args:
        sizes: at least two different sizes, positive.
        samples: the draws at each size, finite and positive on average.
    Returns:
        An estimate whose interval is open to a side on which resamples of zeros leave the slope without a bound.
    """
    found = _values(sizes)
    if len(np.unique(found)) < 2:
        raise InputError("an exponent needs at least two different sizes")
    arrays = [_values(sample) for sample in samples]
    if len(arrays) != len(found):
        raise InputError(f"an exponent needs as many samples as sizes, got {len(arrays)} and {len(found)}")
    if not (np.isfinite(found).all() and all(np.isfinite(array).all() for array in arrays)):
        raise InputError("an exponent needs finite sizes and draws")
    averages = np.array([array.mean() for array in arrays])
    if found.min() <= 0 or averages.min() <= 0:
        raise InputError("an exponent needs positive sizes and draws that are positive on average")
    centred = np.log(found) - np.log(found).mean()
    slope_weights = centred / (centred**2).sum()
    value = float(slope_weights @ np.log(averages))
    means = np.stack(
        [array[rng.integers(0, array.size, size=(resamples, array.size))].mean(axis=1) for array in arrays]
    )
    vanished = means <= 0
    slopes = slope_weights @ np.log(np.where(vanished, 1.0, means))
    # A mean of 0 pulls the slope to minus infinity at a large size, to plus infinity at a small one.
    down, up = (vanished & side[:, None] for side in (slope_weights > 0, slope_weights < 0))
    lows = np.where(down.any(axis=0), -np.inf, np.where(up.any(axis=0), np.inf, slopes))
    highs = np.where(up.any(axis=0), np.inf, np.where(down.any(axis=0), -np.inf, slopes))
    low = float(np.quantile(lows, (1 - level) / 2, method="lower"))
    high = float(np.quantile(highs, (1 + level) / 2, method="higher"))
    return Estimate(value, min(low, value), max(high, value))


def varying(trials: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Those of the named columns that take several values: what one figure, fit or table row must not mix."""
    return [name for name in names if name in trials and trials[name].nunique(dropna=False) > 1]
