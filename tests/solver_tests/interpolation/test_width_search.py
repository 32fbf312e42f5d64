"""The search for the least width: its tests keep their level, its claims hold on success curves that are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from solvers.errors import InputError
from solvers.interpolation.fully_connected import FullyConnected
from solvers.interpolation.width_search import LeastWidth, Restart, SearchState, Tally, WidthSearch, width_grid
from tasks.data_sets import load_problem
from tasks.seeding import RandomStreams

# Factors by which the width wanted at a maximal bias exceeds the least one; bias 0 never works.
FACTORS = {0.5: 1.0, 1.0: 1.1, 0.25: 1.5, 2.0: 1.6, 0.0: math.inf}


def search(
    settings: WidthSearch, interpolates: Callable[[Restart], bool], state: SearchState | None = None
) -> tuple[LeastWidth, list[Restart]]:
    """Run a search to its end; what it found and every restart it wanted."""
    rounds = settings.rounds(state)
    asked: list[Restart] = []
    try:
        wanted = next(rounds).wanted
        while True:
            asked += wanted
            wanted = rounds.send([interpolates(restart) for restart in wanted]).wanted
    except StopIteration as stop:
        return stop.value, asked


def curve(width: int, bias: float, least: float, slope: float) -> float:
    """A success probability that is 0.95 at `least` for the best bias and grows with the width."""
    if math.isinf(FACTORS[bias]):
        return 0.0
    return 1 / (1 + math.exp(-slope * math.log(width / (least * FACTORS[bias])) - math.log(19)))


@pytest.mark.parametrize("restarts", [1, 2, 10, 60, 150])
@pytest.mark.parametrize("probability", [0.5, 0.9, 0.95, 0.99])
def test_the_stakes_are_fair_bets(restarts: int, probability: float) -> None:
    """At p = t a stake has mean 1, on the wrong side of t it shrinks: all its level rests on."""
    successes = np.arange(restarts + 1)
    above = np.array([Tally(s, restarts - s).evidence_above(probability) for s in successes.tolist()])
    below = np.array([Tally(s, restarts - s).evidence_below(probability) for s in successes.tolist()])
    at = binom.pmf(successes, restarts, probability)
    assert at @ above == pytest.approx(1, abs=1e-9)
    assert at @ below == pytest.approx(1, abs=1e-9)
    assert binom.pmf(successes, restarts, probability * 0.9) @ above < 1
    assert binom.pmf(successes, restarts, (1 + probability) / 2) @ below < 1
    assert (np.diff(above) >= 0).all()
    assert (np.diff(below) <= 0).all()


def test_stakes_of_very_many_restarts_are_numbers() -> None:
    assert Tally(100_000, 0).evidence_above(0.95) > 1e300
    assert Tally(0, 100_000).evidence_above(0.95) == 0
    assert Tally(0, 100_000).evidence_below(0.95) > 1e300


@pytest.mark.parametrize(("largest", "ratio"), [(1, 1.05), (7, 1.05), (1000, 1.05), (1000, 2.0), (100_000, 1.3)])
def test_the_grid_has_no_gaps_above_its_ratio(largest: int, ratio: float) -> None:
    grid = width_grid(largest, ratio)
    assert grid[0] == 1
    assert grid[-1] <= largest < max(grid[-1] * ratio, grid[-1] + 1)
    for narrow, wide in itertools.pairwise(grid):
        assert narrow < wide <= max(narrow * ratio, narrow + 1)


@pytest.mark.parametrize("slope", [3.0, 6.0, 12.0])
def test_what_is_shown_is_true(slope: float) -> None:
    """Both claims of an answer hold with 95 % at least; 7 of 40 wrong would come up with chance 0.3 % at exactly that.

    The width is not far above the least one either.
    """
    rng = np.random.default_rng(int(slope))
    wrong, ratios, narrow = 0, [], []
    for _ in range(40):
        least = math.exp(rng.uniform(math.log(3), math.log(3000)))
        found, asked = search(
            WidthSearch(),
            lambda restart: rng.random() < curve(restart.width, restart.max_bias, least, slope),  # noqa: B023
        )
        assert found.width is not None
        assert found.max_bias is not None
        assert len(set(asked)) == len(asked)
        enough = curve(found.width, found.max_bias, least, slope) >= 0.95
        too_narrow = not found.too_narrow or curve(found.too_narrow, 0.5, least, slope) < 0.95
        wrong += not (enough and too_narrow)
        ratios.append(found.width / least)
        narrow.append(found.too_narrow / least)
    assert wrong <= 6
    assert np.median(ratios) < 19 ** (1.2 / slope)
    assert np.median(narrow) > 19 ** (-1 / slope)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_errors_of_all_attempts_together_stay_within_the_confidence(confidence: float) -> None:
    """However many widths are tried: the attempts of both claims together may err with chance 1 - confidence.

    After k attempts less than 1 / k of 1 / 1^2 + 1 / 2^2 + ... = pi^2 / 6 is left, and more than 1 / (k + 1).
    """
    settings, attempts = WidthSearch(confidence=confidence), 2000
    chances = [settings.alpha(attempt) for attempt in range(1, attempts + 1)]
    half = (1 - confidence) / 2
    assert all(0 < later < earlier for earlier, later in itertools.pairwise(chances))
    first = chances[0]
    assert math.fsum(chances) + first / attempts <= half * (1 + 1e-9) + first / attempts**2
    assert math.fsum(chances) + first / attempts >= half * (1 - 1e-9)


def test_many_attempts_on_widths_just_below_the_wanted_probability_rarely_show_one() -> None:
    """Every width is a little too narrow, and a search tries about a dozen of them: 1/4 of the searches may be wrong.

    21 of 40 would come up with chance 0.02 % at exactly that.
    """
    rng = np.random.default_rng(11)
    settings = WidthSearch(probability=0.5, confidence=0.5, max_biases=(0.5,), largest=100)
    wrong, tried = 0, []
    for _ in range(40):
        found, asked = search(settings, lambda restart: rng.random() < 0.5 - 1e-9)
        wrong += found.width is not None
        tried.append(len({restart.width for restart in asked if restart.stage == "certify"}))
    assert np.mean(tried) > 3
    assert wrong <= 20


def test_a_sure_thing_needs_one_neuron() -> None:
    found, asked = search(WidthSearch(), lambda restart: True)
    assert (found.width, found.too_narrow) == (1, 0)
    assert found.successes == found.restarts
    # Nothing but successes: 1 / alpha = 66 is passed by half a stake of 1 / 0.95^s within 100.
    assert found.restarts <= 112
    assert {restart.width for restart in asked} == {1}


def test_a_sharp_step_is_found_within_a_step_of_the_grid() -> None:
    grid = width_grid(2**15, 1.05)
    for least in (2, 17, 500, 1023, 20_000):
        found, _ = search(WidthSearch(), lambda restart: restart.width >= least)  # noqa: B023
        assert found.width in [width for width in grid if width >= least][:2]
        assert found.too_narrow in [0, *(width for width in grid if width < least)][-2:]


def test_a_search_that_never_succeeds_says_so() -> None:
    state = SearchState()
    found, _ = search(WidthSearch(largest=300), lambda restart: False, state)
    assert found == LeastWidth(None, None, 0, 0, 0)
    assert state.narrow == width_grid(300, 1.05)[-1]
    assert state.wide is None


def test_a_probability_that_stays_just_below_is_never_shown() -> None:
    rng = np.random.default_rng(0)
    found, _ = search(WidthSearch(largest=64), lambda restart: rng.random() < 0.93)
    assert found.width is None


def test_an_unfinished_search_knows_where_it_stands() -> None:
    state = SearchState()
    rounds = WidthSearch().rounds(state)
    wanted = next(rounds).wanted
    while state.wide is None:
        wanted = rounds.send([restart.width >= 100 for restart in wanted]).wanted
    assert state.narrow < 100 <= state.wide
    assert state.found.width is None
    rounds.close()


def test_likely_restarts_continue_the_wanted_ones() -> None:
    rounds = WidthSearch().rounds()
    asked = next(rounds)
    for _ in range(30):
        asked = rounds.send([restart.width >= 40 for restart in asked.wanted])
        assert not set(asked.wanted) & set(asked.likely)
        for restart in asked.likely:
            assert (restart.width, restart.max_bias) == (asked.wanted[-1].width, asked.wanted[-1].max_bias)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"probability": 1.0}, "probability"),
        ({"probability": float("nan")}, "probability"),
        ({"confidence": 0.0}, "confidence"),
        ({"max_biases": ()}, "biases"),
        ({"max_biases": (0.5, -1.0)}, "biases"),
        ({"max_biases": (math.inf,)}, "biases"),
        ({"largest": 0}, "largest"),
        ({"ratio": 1.0}, "ratio"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        WidthSearch(**settings)  # type: ignore[arg-type]


def test_moons_keep_the_probability_that_was_shown() -> None:
    """400 fresh restarts at the width found; below 372 of them would come up with chance 4 % at exactly 0.95, and
    the widths that can be shown have well above that.
    """
    problem = load_problem("moons:1000")

    def interpolates(restart: Restart) -> bool:
        content = ["moons", restart.width, restart.max_bias, restart.stage, restart.number]
        rng = RandomStreams.of(content).generator("construction")
        return FullyConnected(restart.width, restart.max_bias).solve(problem, rng=rng).interpolates

    found, _ = search(WidthSearch(), interpolates)
    assert found.width is not None
    assert found.max_bias is not None
    # The published figures pass 0.95 between widths 150 and 250 for the best maximal bias.
    assert 120 <= found.width <= 300
    assert 50 <= found.too_narrow < found.width
    fresh = [
        FullyConnected(found.width, found.max_bias).solve(problem, rng=np.random.default_rng([7, k])).interpolates
        for k in range(400)
    ]
    assert np.mean(fresh) >= 0.93
