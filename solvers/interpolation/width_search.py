"""The least first-layer width that interpolates with a wanted probability: what to try next, when to stop.

Pure policy: `WidthSearch.rounds` yields lists of restarts and is sent whether each interpolated. It never looks at a
clock or at who computes, so the answer does not depend on the number of workers.

Success is taken to grow with the width. Then a width is found in three stages, the last two from fresh restarts:
screen - doubling and bisection on a geometric grid, roughly; certify - one width after the other until one is shown
to be wide enough; refute - narrower ones until one is shown to be too narrow for every maximal bias.

What is shown is shown by betting: against H: p <= t the stake grows by the likelihood of p > t over that of t. Under H
it ever reaches 1/alpha with probability at most alpha, so a test may stop at any time.
Source: [Ville39]; [Robbins70]; [RGVS23, section 3].
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError

__all__ = ["Asking", "LeastWidth", "Restart", "Round", "Rounds", "SearchState", "Tally", "WidthSearch", "width_grid"]

Stage: TypeAlias = Literal["screen", "certify", "refute", "curve"]

# Restarts of a cell: at the first look, in a block, until screening or refuting makes up its mind.
FIRST_LOOK, SCREEN_BLOCK, SCREEN_MOST, REFUTE_BLOCK, REFUTE_MOST = 2, 8, 32, 8, 128
CERTIFY_BLOCK, CERTIFY_LEAST, CERTIFY_MOST = 16, 64, 512
# Where to certify and to refute, as guessed probabilities: this far above t or below it, in units of 1 - t.
PROMISING, HOPELESS = 0.6, -1.5
# Screening shows nothing, so its odds may be loose.
SCREEN_ALPHA = 0.05
# Further restarts of a cell that idle workers may begin with.
AHEAD = 64


@dataclass(frozen=True, slots=True)
class Restart:
    """One construction: its random streams derive from these fields, so restarts of different stages are independent.

    Attributes:
        number: 0, 1, ... among the restarts of the same width, maximal bias and stage.
    """

    width: int
    max_bias: float
    stage: Stage
    number: int


@dataclass(frozen=True, slots=True)
class Round:
    """Restarts to compute before the search goes on, and some that it will probably ask for next."""

    wanted: tuple[Restart, ...]
    likely: tuple[Restart, ...]


@dataclass(slots=True)
class Tally:
    """How restarts of one cell ended."""

    successes: int = 0
    failures: int = 0

    @property
    def total(self) -> int:
        return self.successes + self.failures

    @property
    def share(self) -> float:
        """Successes over restarts; 0 without any."""
        return self.successes / self.total if self.total else 0.0

    def add(self, outcomes: Sequence[bool]) -> None:
        self.successes += sum(outcomes)
        self.failures += len(outcomes) - sum(outcomes)

    def evidence_above(self, probability: float) -> float:
        """Stake won against H: p <= t; half of it bets on p = 1, half on p uniform in (t, 1]."""
        return _stake(self.successes, self.failures, probability)

    def evidence_below(self, probability: float) -> float:
        """Stake won against H: p >= t."""
        return _stake(self.failures, self.successes, 1.0 - probability)


def _stake(successes: int, failures: int, probability: float) -> float:
    """(1[failures = 0] + mean over p in (t, 1] of p^s (1 - p)^f) / (2 t^s (1 - t)^f)."""
    from scipy.special import betaincc, betaln

    s, f, t = successes, failures, probability
    against = s * math.log(t) + f * math.log1p(-t)
    # The upper tail of the incomplete beta integral over (t, 1]; underflow to 0 only ever lowers the stake.
    tail = float(betaincc(s + 1, f + 1, t))
    stake = 0.0
    if tail > 0:
        stake += 0.5 * math.exp(min(700.0, math.log(tail) + float(betaln(s + 1, f + 1)) - math.log1p(-t) - against))
    if not failures:
        stake += 0.5 * math.exp(min(700.0, -against))
    return stake


@dataclass(frozen=True, slots=True)
class LeastWidth:
    """What a search found.

    Attributes:
        width: n, shown to interpolate with the wanted probability at `max_bias`; None when no width was.
        max_bias: lambda.
        too_narrow: the widest width that was shown to be too narrow at every maximal bias; 0 when none was.
        successes: of the restarts that showed it.
        restarts: how many those were.
    """

    width: int | None
    max_bias: float | None
    too_narrow: int
    successes: int
    restarts: int


@dataclass(slots=True)
class SearchState:
    """Where a search stands, for people and for a search that is stopped early.

    Attributes:
        stage, width: what is being tried.
        narrow: the widest width that screening took for too narrow; 0 when none.
        wide: the narrowest that it took for wide enough, and its maximal bias; None when none.
        found: as far as anything has been shown.
        seen: per maximal bias and width how all restarts of screening and of later tests ended.
    """

    stage: Stage = "screen"
    width: int = 0
    narrow: int = 0
    wide: int | None = None
    max_bias: float | None = None
    found: LeastWidth = field(default_factory=lambda: LeastWidth(None, None, 0, 0, 0))
    seen: dict[float, dict[int, Tally]] = field(default_factory=dict)

    def remember(self, width: int, bias: float, outcomes: Sequence[bool]) -> None:
        """Add outcomes of one cell to `seen`."""
        self.seen.setdefault(bias, {}).setdefault(width, Tally()).add(outcomes)


# Yields rounds, is sent the outcomes of the restarts wanted, in their order.
T = TypeVar("T")
Asking: TypeAlias = Generator[Round, Sequence[bool], T]
Rounds: TypeAlias = Asking[LeastWidth]


def width_grid(largest: int, ratio: float) -> list[int]:
    """1 = n_0 < n_1 < ... <= largest, steps of at most `ratio` where whole numbers allow."""
    found = [1]
    while (following := max(found[-1] + 1, math.floor(found[-1] * ratio))) <= largest:
        found.append(following)
    return found


@dataclass(frozen=True, slots=True)
class WidthSearch:
    """Settings of a search.

    Attributes:
        probability: wanted chance t that one construction interpolates.
        confidence: chance that both claims of the answer hold: n is wide enough, `too_narrow` is too narrow.
        max_biases: the grid of lambda; a width is wide enough when it is so for one of them.
        largest: no wider first layer is tried.
        ratio: of neighbouring widths on the grid.
    """

    probability: float = 0.95
    confidence: float = 0.95
    max_biases: tuple[float, ...] = (0.5, 1.0, 0.25, 2.0, 0.0)
    largest: int = 2**15
    ratio: float = 1.05

    def __post_init__(self) -> None:
        for name, value in (("probability", self.probability), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise InputError(f"the {name} of a width search must lie strictly between 0 and 1, got {value:g}")
        if not self.max_biases or any(not 0 <= bias < math.inf for bias in self.max_biases):
            raise InputError(f"the maximal biases must be finite numbers >= 0, got {list(self.max_biases)}")
        if self.largest < 1 or not self.ratio > 1:
            raise InputError(f"a search needs a largest width >= 1 and a ratio > 1, got {self.largest}, {self.ratio}")

    def rounds(self, state: SearchState | None = None) -> Rounds:
        """The search as a generator: yields rounds, is sent one outcome per wanted restart, returns what it found.

        Args:
            state: kept up to date while the search runs.
        """
        state = SearchState() if state is None else state
        grid = width_grid(self.largest, self.ratio)
        biases = list(dict.fromkeys(float(bias) for bias in self.max_biases))
        bracket = yield from self.bracket(grid, biases, state)
        if bracket is not None:
            start = yield from self._certify(grid, bracket, state)
            if start is not None:
                yield from self._refute(grid, start, biases, state)
        return state.found

    def alpha(self, attempt: int) -> float:
        """Chance of error that attempt 1, 2, ... of a stage may have: half of 1 - confidence in all of them."""
        return (1.0 - self.confidence) / 2 * 6 / (math.pi * attempt) ** 2

    def _between(self, distance: float) -> float:
        """A probability above t (distance > 0) or below it, in units of 1 - t."""
        return min(1.0, max(0.0, self.probability + distance * (1.0 - self.probability)))

    def promising(self, state: SearchState, bias: float, widths: Sequence[int]) -> NDArray[np.bool_]:
        """At which widths the restarts so far promise somewhat more than the wanted probability."""
        return _expected_shares(state.seen[bias], widths, self.probability) >= self._between(PROMISING)

    def bracket(self, grid: Sequence[int], biases: list[float], state: SearchState) -> Asking[int | None]:
        """Doubling, then bisection; the index of the narrowest width that screening takes for wide enough."""
        low, high = -1, 0
        while True:
            bias, kept = yield from self._screen(grid[high], biases, state)
            if bias is not None:
                biases = kept
                break
            low = high
            if high == len(grid) - 1:
                return None
            high = next((k for k, width in enumerate(grid) if width >= 2 * grid[high]), len(grid) - 1)
        while high - low > 1:
            middle = (low + high) // 2
            bias, kept = yield from self._screen(grid[middle], biases, state)
            if bias is None:
                low = middle
            else:
                high, biases = middle, kept
        return high

    def _screen(self, width: int, biases: list[float], state: SearchState) -> Asking[tuple[float | None, list[float]]]:
        """A maximal bias that looks good at this width or None, and those worth trying at narrower ones.

        After a first look at each, the most promising one is tried on until it looks good or bad. Where a width is
        too narrow all are kept, since a wider one may suit any of them.
        """
        state.stage, state.width = "screen", width
        tallies = {bias: Tally() for bias in biases}
        cells = [(bias, Restart(width, bias, "screen", k)) for bias in biases for k in range(FIRST_LOOK)]
        outcomes = yield Round(tuple(restart for _, restart in cells), ())
        for (bias, _), outcome in zip(cells, outcomes, strict=True):
            tallies[bias].add([outcome])
            state.remember(width, bias, [outcome])
        hopeful = list(biases)
        while True:
            bad = 1 / SCREEN_ALPHA
            hopeful = [bias for bias in hopeful if tallies[bias].evidence_below(self.probability) < bad]
            if not hopeful:
                state.narrow = max(state.narrow, width)
                return None, biases
            best = max(hopeful, key=lambda bias: (tallies[bias].successes + 1) / (tallies[bias].total + 2))
            tally = tallies[best]
            if tally.total >= SCREEN_MOST:
                if tally.share >= self.probability:
                    state.wide, state.max_bias = width, best
                    return best, [best, *(bias for bias in hopeful if bias != best)]
                hopeful.remove(best)
                continue
            yield from self.block(state, width, best, "screen", tally, min(SCREEN_BLOCK, SCREEN_MOST - tally.total))

    def _certify(self, grid: Sequence[int], start: int, state: SearchState) -> Asking[int | None]:
        """The first of some widths from `start` on that is shown to be wide enough.

        A probability barely above t could be shown by very many restarts only, so each width tried is one where the
        restarts so far promise somewhat more.
        """
        bias = state.max_bias
        assert bias is not None
        index, attempt = start - 1, 0
        while index < len(grid) - 1:
            attempt += 1
            promising = np.flatnonzero(self.promising(state, bias, grid[index + 1 :]))
            index += 1 + (int(promising[0]) if len(promising) else 0)
            state.stage, state.width = "certify", grid[index]
            enough = 1 / self.alpha(attempt)
            tally = Tally()
            while tally.total < CERTIFY_MOST:
                yield from self.block(state, grid[index], bias, "certify", tally, CERTIFY_BLOCK)
                if tally.evidence_above(self.probability) >= enough:
                    state.found = LeastWidth(grid[index], bias, 0, tally.successes, tally.total)
                    return index
                doubtful = tally.total >= CERTIFY_LEAST and tally.share < self.probability
                if doubtful or tally.evidence_below(self.probability) >= enough:
                    break
        return None

    def _refute(self, grid: Sequence[int], index: int, biases: Sequence[float], state: SearchState) -> Asking[None]:
        """The widest of some narrower widths that is shown to be too narrow at every maximal bias.

        For one width no correction is made for the number of biases: were one of them good enough, it alone would
        have to be refuted wrongly.
        """
        found = state.found
        assert found.max_bias is not None
        order = sorted(biases, key=lambda bias: bias != found.max_bias)
        attempt = 0
        while index > 0:
            attempt += 1
            guessed = _expected_shares(state.seen[found.max_bias], grid[:index], self.probability)
            hopeless = np.flatnonzero(guessed <= self._between(HOPELESS))
            index = min(index - attempt, int(hopeless[-1]) if len(hopeless) else 0)
            if index < 0:
                return
            state.stage, state.width = "refute", grid[index]
            enough = 1 / self.alpha(attempt)
            refuted = True
            for bias in order:
                tally = Tally()
                while tally.evidence_below(self.probability) < enough and tally.total < REFUTE_MOST:
                    yield from self.block(state, grid[index], bias, "refute", tally, REFUTE_BLOCK)
                if tally.evidence_below(self.probability) < enough:
                    refuted = False
                    break
            if refuted:
                state.found = replace(found, too_narrow=grid[index])
                return

    def block(self, state: SearchState, width: int, bias: float, stage: Stage, tally: Tally, size: int) -> Asking[None]:
        """More restarts of one cell."""
        cell = [Restart(width, bias, stage, number) for number in range(tally.total, tally.total + size + AHEAD)]
        outcomes = yield Round(tuple(cell[:size]), tuple(cell[size:]))
        tally.add(outcomes)
        state.remember(width, bias, outcomes)


def _expected_shares(seen: Mapping[int, Tally], widths: Sequence[int], probability: float) -> FloatArray:
    """Guesses of the success probability at some widths, from restarts at others; they guide, they show nothing.

    Posterior mean of logistic curves in log n, over a grid of slopes and of the widths where a curve passes t.
    """
    slopes = np.geomspace(1.0, 60.0, 24)[:, None]
    tried = np.log(np.array(list(seen), dtype=np.float64))
    offset = math.log(probability / (1.0 - probability))
    centres = np.linspace(tried.min() - 1.0, tried.max() + 1.0, 121)[None, :]
    log_likelihood = np.zeros((slopes.size, centres.size))
    for width, tally in zip(tried, seen.values(), strict=True):
        odds = slopes * (width - centres) + offset
        log_likelihood -= tally.successes * np.logaddexp(0.0, -odds) + tally.failures * np.logaddexp(0.0, odds)
    weights = np.exp(log_likelihood - log_likelihood.max())
    weights /= weights.sum()
    odds = slopes[..., None] * (np.log(np.array(widths, dtype=np.float64)) - centres[..., None]) + offset
    shares: FloatArray = np.tensordot(weights, 0.5 * (1.0 + np.tanh(odds / 2)), axes=2)
    return shares
