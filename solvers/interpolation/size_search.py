"""The first-layer width and maximal bias of the smallest network, in neurons or parameters: what to try next.

Wider first layers take fewer second-layer neurons, so the least width gives neither the fewest neurons nor the fewest
parameters. From the least width that looks wide enough on, some restarts of every cell (n, lambda) measure how large
networks come out, until they only grow; then the promising cells are tested in the order of their sizes until one is
shown to interpolate with the wanted probability, by the bets of `width_search`. Pure policy, as there.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

import numpy as np

from solvers.interpolation.width_search import (
    CERTIFY_BLOCK,
    CERTIFY_LEAST,
    CERTIFY_MOST,
    Asking,
    LeastWidth,
    Restart,
    Round,
    SearchState,
    Tally,
    WidthSearch,
    width_grid,
)

__all__ = ["Aim", "CurvePoint", "SizeSearch", "Sized", "of_sizes", "size_to_shrink"]

Aim: TypeAlias = Literal["width", "neurons", "parameters"]

# Restarts of a cell. Every width of the grid is measured at first, then some; none beyond this multiple of the best.
CURVE_RESTARTS, EVERY, CURVE_STEP, FAR = 4, 10, 3, 1.6
MOST_TESTS = 20


class Sized(Protocol):
    """How one restart came out.

    Attributes:
        neurons: of the second layer. parameters: of the whole network.
    """

    @property
    def interpolates(self) -> bool: ...
    @property
    def neurons(self) -> int: ...
    @property
    def parameters(self) -> int: ...


T = TypeVar("T")
Sizes: TypeAlias = Generator[Round, Sequence[Sized], T]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """How large networks came out at one width and maximal bias.

    Attributes:
        size: median over the restarts that interpolate, neurons or parameters; inf without any.
        successes: of how many `restarts`.
    """

    width: int
    max_bias: float
    size: float
    successes: int
    restarts: int


def size_to_shrink(outcome: Sized, aim: Aim) -> int:
    """What is to be small: second-layer neurons, or parameters, which also decide among networks of one width."""
    return outcome.neurons if aim == "neurons" else outcome.parameters


def of_sizes(asking: Asking[T]) -> Sizes[T]:
    """A search that hears whether restarts interpolate, as one that hears how they came out."""
    try:
        asked = next(asking)
        while True:
            outcomes = yield asked
            asked = asking.send([outcome.interpolates for outcome in outcomes])
    except StopIteration as stop:
        found: T = stop.value
        return found


@dataclass(frozen=True, slots=True)
class SizeSearch:
    """Settings of a search for the smallest network.

    Attributes:
        settings: probability, confidence and the grid.
        aim: "neurons" or "parameters".
    """

    settings: WidthSearch
    aim: Aim

    def rounds(self, state: SearchState, curve: list[CurvePoint]) -> Sizes[LeastWidth]:
        """The search as a generator: yields rounds, is sent how the wanted restarts came out, returns what it found.

        Args:
            state: kept up to date while the search runs.
            curve: the cells that were measured are put in.
        """
        grid = width_grid(self.settings.largest, self.settings.ratio)
        biases = list(dict.fromkeys(float(bias) for bias in self.settings.max_biases))
        start = yield from of_sizes(self.settings.bracket(grid, biases, state))
        if start is not None:
            yield from self._measure(grid, start, biases, state, curve)
            yield from self._certify(state, curve)
        return state.found

    def _measure(
        self, grid: Sequence[int], start: int, biases: Sequence[float], state: SearchState, curve: list[CurvePoint]
    ) -> Sizes[None]:
        best, at = math.inf, grid[start]
        chosen = [*range(start, min(start + EVERY, len(grid))), *range(start + EVERY, len(grid), CURVE_STEP)]
        for width in dict.fromkeys(grid[index] for index in [*chosen, len(grid) - 1]):
            if width > FAR * at:
                return
            state.stage, state.width = "curve", width
            cells = [Restart(width, bias, "curve", k) for bias in biases for k in range(CURVE_RESTARTS)]
            outcomes = yield Round(tuple(cells), ())
            for k, bias in enumerate(biases):
                mine = outcomes[k * CURVE_RESTARTS : (k + 1) * CURVE_RESTARTS]
                sizes = [size_to_shrink(outcome, self.aim) for outcome in mine if outcome.interpolates]
                size = float(np.median(sizes)) if sizes else math.inf
                curve.append(CurvePoint(width, bias, size, len(sizes), CURVE_RESTARTS))
                state.remember(width, bias, [outcome.interpolates for outcome in mine])
                if size < best:
                    best, at = size, width

    def _certify(self, state: SearchState, curve: Sequence[CurvePoint]) -> Sizes[None]:
        attempt = 0
        for point in sorted(curve, key=lambda point: (point.size, point.width)):
            # What has been seen until now: a cell that failed lets narrower ones look worse.
            if not self.settings.promising(state, point.max_bias, [point.width])[0]:
                continue
            attempt += 1
            if attempt > MOST_TESTS:
                return
            state.stage, state.width = "certify", point.width
            enough, tally = 1 / self.settings.alpha(attempt), Tally()
            while tally.total < CERTIFY_MOST:
                block = self.settings.block(state, point.width, point.max_bias, "certify", tally, CERTIFY_BLOCK)
                yield from of_sizes(block)
                if tally.evidence_above(self.settings.probability) >= enough:
                    state.found = LeastWidth(point.width, point.max_bias, 0, tally.successes, tally.total)
                    return
                doubtful = tally.total >= CERTIFY_LEAST and tally.share < self.settings.probability
                if doubtful or tally.evidence_below(self.settings.probability) >= enough:
                    break
