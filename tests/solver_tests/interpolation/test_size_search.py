"""The search for the smallest network: right on sizes and success curves that are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from solvers.interpolation.size_search import Aim, CurvePoint, SizeSearch
from solvers.interpolation.width_search import LeastWidth, Restart, SearchState, WidthSearch

DIMENSION = 20


@dataclass(frozen=True)
class Outcome:
    """One restart of a made-up construction."""

    interpolates: bool
    neurons: int
    parameters: int


def outcome(restart: Restart, least: float) -> Outcome:
    """Interpolates from `least` on, more surely the wider; neurons fall with the width and are fewest at lambda = 1."""
    content = [restart.width, int(100 * restart.max_bias), *restart.stage.encode(), restart.number]
    rng = np.random.default_rng(content)
    chance = 1 / (1 + math.exp(-30 * math.log(restart.width / least) - math.log(19)))
    neurons = round(neurons_at(restart.width, restart.max_bias) * rng.uniform(0.98, 1.02))
    return Outcome(bool(rng.random() < chance), neurons, parameters_at(restart.width, neurons))


def neurons_at(width: int, bias: float) -> float:
    return (20 + 4e5 / width**1.5) * (1.0 if bias == 1.0 else 1.3)


def parameters_at(width: int, neurons: float) -> int:
    return round(width * (DIMENSION + 1) + neurons * (width + 2))


def search(aim: Aim, least: float, largest: int = 3000) -> tuple[LeastWidth, list[CurvePoint], list[Restart]]:
    state, curve, asked = SearchState(), list[CurvePoint](), list[Restart]()
    rounds = SizeSearch(WidthSearch(max_biases=(0.5, 1.0), largest=largest), aim).rounds(state, curve)
    try:
        wanted = next(rounds).wanted
        while True:
            asked += wanted
            wanted = rounds.send([outcome(restart, least) for restart in wanted]).wanted
    except StopIteration as stop:
        return stop.value, curve, asked


@pytest.mark.parametrize("least", [30.0, 100.0, 200.0])
def test_parameters_are_near_the_least_possible(least: float) -> None:
    found, _, _ = search("parameters", least)
    assert found.width is not None
    assert found.max_bias == 1.0
    possible = [parameters_at(n, neurons_at(n, 1.0)) for n in range(int(least), 3000)]
    assert parameters_at(found.width, neurons_at(found.width, 1.0)) <= 1.1 * min(possible)


def test_fewest_neurons_are_at_the_widest() -> None:
    found, curve, _ = search("neurons", 100.0, 500)
    assert found.max_bias == 1.0
    assert found.width is not None
    assert found.width >= 400
    sizes = [point.size for point in curve if point.max_bias == 1.0]
    assert sizes == sorted(sizes, reverse=True) or min(sizes) == pytest.approx(neurons_at(500, 1.0), rel=0.05)


def test_what_is_kept_was_shown() -> None:
    found, curve, asked = search("parameters", 100.0)
    shown = [
        outcome(restart, 100.0).interpolates
        for restart in asked
        if (restart.stage, restart.width, restart.max_bias) == ("certify", found.width, found.max_bias)
    ]
    assert (sum(shown), len(shown)) == (found.successes, found.restarts)
    # The stake of `Tally.evidence_above`, here from its definition, on s successes and f failures.
    s, f, t = found.successes, found.restarts - found.successes, 0.95
    p = np.linspace(t, 1, 200_001)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.exp(s * np.log(p / t) + (f * np.log((1 - p) / (1 - t)) if f else 0.0))
    mixed = 0.5 * density.mean() + (0.5 * t**-s if f == 0 else 0.0)
    assert mixed >= 1 / (0.05 / 2 * 6 / math.pi**2) * 0.999
    assert len({restart.width for restart in asked if restart.stage == "curve"}) == len({p.width for p in curve})


def test_nothing_is_found_where_nothing_interpolates() -> None:
    found, curve, _ = search("parameters", 1e9, 300)
    assert found.width is None
    assert curve == []
