"""Progress that never widens, whichever method reports it."""

from __future__ import annotations

import math
from collections.abc import Set

from solvers.problems.budget import Watch

__all__ = ["narrowing"]


def narrowing(watch: Watch | None, exponents: Set[float]) -> Watch | None:
    """A watch that is told the best bounds of all reports so far.

    Args:
        watch: who is told.
        exponents: p's that one problem alone is about; of others, reports are told as they come.
    """
    if watch is None:
        return None
    best: dict[float, tuple[float, float]] = {}

    def tell(p: float, lower: float, upper: float) -> None:
        if p in exponents:
            known = best.get(p, (0.0, math.inf))
            best[p] = lower, upper = max(known[0], lower), min(known[1], upper)
        watch(p, lower, upper)

    return tell
