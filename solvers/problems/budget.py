"""How long a solver may work, and how close its bounds must come."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from solvers.arithmetic.compile_clock import COMPILING
from solvers.errors import InputError

__all__ = ["Budget", "Deadline", "Watch"]

DEFAULT_RELATIVE_GAP = 1e-6

# Is told p and the bounds so far, now and then while a solve runs.
Watch: TypeAlias = Callable[[float, float, float], None]


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one solve.

    Attributes:
        seconds: wall time, compilation of kernels not counted; `math.inf` for none. Zero is allowed: the solver answers
            with what costs nothing.
        nodes: nodes, regions or subsets a search may expand; `None` for no limit.
        relative_gap: EXACT is claimed when `upper - lower <= relative_gap * upper`.
        watch: who is told of progress by the methods that can; changes nothing in an answer.
    """

    seconds: float = math.inf
    nodes: int | None = None
    relative_gap: float = DEFAULT_RELATIVE_GAP
    watch: Watch | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise InputError(f"a time limit must be at least 0 seconds, got {self.seconds}")
        if self.nodes is not None and self.nodes < 0:
            raise InputError(f"a node limit must be at least 0, got {self.nodes}")
        if not 0 <= self.relative_gap < math.inf:
            raise InputError(f"a relative gap must be a finite number >= 0, got {self.relative_gap}")

    def within(self, seconds: float) -> Budget:
        """The same limits with another time."""
        return replace(self, seconds=seconds)

    def start(self) -> Deadline:
        """Start the clock."""
        return Deadline(self)

    def is_closed(self, lower: float, upper: float) -> bool:
        """Whether the interval is narrow enough to be called exact."""
        return math.isfinite(upper) and upper - lower <= self.relative_gap * abs(upper)


@dataclass(slots=True)
class Deadline:
    """A running clock for one budget, which stands still while this process compiles kernels.

    The first solve after an installation compiles for a minute; a limit that counted it would end before the search.
    """

    budget: Budget
    started: float = field(default_factory=lambda: time.perf_counter())
    _compiled_before: float = field(init=False)

    def __post_init__(self) -> None:
        self._compiled_before = COMPILING.seconds_until(self.started)

    @property
    def elapsed(self) -> float:
        """Seconds since the start, compilation included."""
        return time.perf_counter() - self.started

    @property
    def spent(self) -> float:
        """Seconds since the start that count against the budget."""
        now = time.perf_counter()
        return now - self.started - (COMPILING.seconds_until(now) - self._compiled_before)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.budget.seconds - self.spent)

    @property
    def is_over(self) -> bool:
        return self.spent >= self.budget.seconds

    def tell(self, p: float, lower: float, upper: float) -> None:
        """Report the bounds so far to whoever watches."""
        if self.budget.watch is not None:
            self.budget.watch(p, lower, upper)
