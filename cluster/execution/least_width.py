"""Drives a search for the least width or the smallest network: rounds of restarts to a pool of workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from cluster.execution.restart_pool import AbstractRestartPool, LocalPool, OutOfTimeError, RayPool
from solvers.interpolation.size_search import Aim, CurvePoint, SizeSearch, of_sizes, size_to_shrink
from solvers.interpolation.width_search import LeastWidth, Restart, SearchState, Stage, WidthSearch
from solvers.problems.interpolants import Interpolant
from solvers.problems.questions import InterpolationProblem
from tasks.constructions import ConstructionChoice, RestartOutcome, restart_interpolant

__all__ = ["SearchProgress", "SearchResult", "find_least_width"]


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """Where a search stands.

    Attributes:
        stage, width: what is being asked.
        narrow, wide: the widths that look too narrow and wide enough; 0 and None while none does.
        restarts: constructions that the search counted.
        seconds: since the workers stand.
    """

    stage: Stage
    width: int
    narrow: int
    wide: int | None
    restarts: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """What a search came to.

    Attributes:
        found: what was shown.
        state: how far it went.
        timed_out: whether the time allowed ended first.
        interpolant: the smallest of the networks that showed the width; None when no width was shown.
        aim: what was to be small.
        curve: for neurons and parameters, the sizes that were measured.
        restarts: constructions that the search counted.
        seconds: of the search, without the start of the workers.
    """

    settings: WidthSearch
    found: LeastWidth
    state: SearchState
    timed_out: bool
    interpolant: Interpolant | None
    restarts: int
    workers: int
    seconds: float
    aim: Aim = "width"
    curve: tuple[CurvePoint, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether a width was shown, and the search ended by itself."""
        return self.found.width is not None and not self.timed_out

    @property
    def advice(self) -> str:
        """Why it is not finished and what a user can do, in one sentence."""
        state, settings = self.state, self.settings
        if self.found.width is not None:
            return (
                f"the time ended after width {self.found.width} was shown to be wide enough and before a narrower one "
                "was shown not to be: allow more time for that"
            )
        if self.timed_out:
            seen = f"widths up to {state.narrow} look too narrow" if state.narrow else "no width has been judged yet"
            wide = f" and {state.wide} looks wide enough" if state.wide is not None else ""
            return f"the time ended before any width was shown to be wide enough ({seen}{wide}): allow more time"
        return (
            f"no width up to {settings.largest} was shown to interpolate with probability >= "
            f"{settings.probability:g}: allow a larger --max-width, other --max-bias, or a lower --probability"
        )

    def to_json(self) -> dict[str, Any]:
        """The search in plain JSON types."""
        settings, found, state = self.settings, self.found, self.state
        return {
            "status": "found" if self.finished else ("out-of-time" if self.timed_out else "not-found"),
            "probability": settings.probability,
            "confidence": settings.confidence,
            "max_biases": list(settings.max_biases),
            "max_width": settings.largest,
            "least_width_above": found.too_narrow,
            "least_width_at_most": found.width,
            "successes": found.successes,
            "of_restarts": found.restarts,
            "looks_too_narrow": state.narrow,
            "looks_wide_enough": state.wide,
            "restarts": self.restarts,
            "workers": self.workers,
            "seconds": self.seconds,
            "minimise": self.aim,
            "curve": [asdict(point) | {"size": _finite(point.size)} for point in self.curve],
        }


def _finite(size: float) -> float | None:
    return size if math.isfinite(size) else None


def find_least_width(
    problem: InterpolationProblem,
    choice: ConstructionChoice,
    source: tuple[str, int],
    settings: WidthSearch,
    *,
    executor: str = "local",
    workers: int | None = None,
    address: str | None = None,
    seconds: float = math.inf,
    report: Callable[[SearchProgress], None] | None = None,
    aim: Aim = "width",
) -> SearchResult:
    """Search the least width, or the smallest network, on threads of this process or on Ray.

    The answer is the same from both, for any workers.

    Args:
        source: name and seed of the data; the random streams derive from them.
        executor: "local" or "ray".
        workers: threads or actors; all CPUs when left out.
        seconds: time allowed once the workers stand.
        report: hears of progress after every round.
        aim: what is to be small: the width of the first layer, or the neurons of the second, or all parameters.
    Raises:
        InputError: the settings do not fit the data, or no cluster answers.
    """
    state = SearchState()
    curve: list[CurvePoint] = []
    shown: dict[Restart, RestartOutcome] = {}
    timed_out = False
    pool: AbstractRestartPool
    if executor == "ray":
        pool = RayPool(problem, choice, source, workers, address)
    else:
        pool = LocalPool(problem, choice, source, workers)
    with pool:
        started = time.monotonic()
        least = aim == "width"
        rounds = of_sizes(settings.rounds(state)) if least else SizeSearch(settings, aim).rounds(state, curve)
        try:
            asked = next(rounds)
            while True:
                outcomes = pool.compute(asked, started + seconds)
                if state.stage == "certify":
                    shown.update(zip(asked.wanted, outcomes, strict=True))
                if report is not None:
                    spent = time.monotonic() - started
                    report(SearchProgress(state.stage, state.width, state.narrow, state.wide, pool.computed, spent))
                asked = rounds.send(outcomes)
        except StopIteration:
            pass
        except OutOfTimeError:
            timed_out = True
        elapsed = time.monotonic() - started
    interpolant = None
    if state.found.width is not None:
        fitting = [
            (size_to_shrink(outcome, aim), restart.number, restart)
            for restart, outcome in shown.items()
            if outcome.interpolates and (restart.width, restart.max_bias) == (state.found.width, state.found.max_bias)
        ]
        interpolant = restart_interpolant(problem, choice, min(fitting)[2], source)
    counted = pool.computed, pool.workers, elapsed
    return SearchResult(settings, state.found, state, timed_out, interpolant, *counted, aim, tuple(curve))
